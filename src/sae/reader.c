#include "sae/reader.h"

#include <pthread.h>

typedef struct buffer {
    int64_t begin; /* -1: of no batch */
    mw_status status;
    int64_t replaced;
    float *x, *y;
} buffer;

struct reader {
    feed *feed;
    int64_t count, replaced;
    bool ahead;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    buffer buffers[2];
    int taken;       /* the buffer that the caller has */
    buffer *reading; /* what the thread works on; NULL: nothing */
    bool closing;
};

/* What is replaced counts when the batch is taken: one that is read ahead of the last step never is. */
static void fill(reader *r, buffer *b) {
    int64_t before = r->feed->replaced;
    b->status = feed_read(r->feed, b->begin, r->count, b->x, b->y);
    b->replaced = r->feed->replaced - before;
    r->feed->replaced = before;
}

static void *read_ahead(void *self) {
    reader *r = self;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->reading && !r->closing) pthread_cond_wait(&r->changed, &r->lock);
        if (!r->reading) break;
        buffer *b = r->reading;
        pthread_mutex_unlock(&r->lock);
        fill(r, b);
        pthread_mutex_lock(&r->lock);
        r->reading = NULL;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static mw_status make_buffers(reader *r) {
    for (int i = 0; i < (r->ahead ? 2 : 1); i++) {
        buffer *b = &r->buffers[i];
        b->begin = -1;
        if (!(b->x = mw_alloc((size_t)(r->count * r->feed->in->width) * sizeof *b->x))) return MW_ERR_MEMORY;
        if (r->feed->out && !(b->y = mw_alloc((size_t)(r->count * r->feed->out->width) * sizeof *b->y)))
            return MW_ERR_MEMORY;
    }
    return MW_OK;
}

static void free_reader(reader *r) {
    for (int i = 0; i < 2; i++) {
        mw_free(r->buffers[i].x);
        mw_free(r->buffers[i].y);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    mw_free(r);
}

mw_status reader_open(feed *f, int64_t count, bool ahead, reader **out) {
    reader *r = mw_calloc(1, sizeof *r);
    if (!r) return MW_ERR_MEMORY;
    r->feed = f;
    r->count = count;
    r->ahead = ahead;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    mw_status status = make_buffers(r);
    if (status == MW_OK && ahead && pthread_create(&r->thread, NULL, read_ahead, r) != 0)
        status = mw_error(MW_ERR_MEMORY, "a thread that reads cannot be started");
    if (status != MW_OK)
        free_reader(r);
    else
        *out = r;
    return status;
}

void reader_rest(reader *r) {
    pthread_mutex_lock(&r->lock);
    while (r->reading) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

/* The other buffer, while the caller has this one. */
static void begin_reading(reader *r, int64_t next) {
    if (!r->ahead || next < 0) return;
    buffer *b = &r->buffers[1 - r->taken];
    if (b->begin == next) return;
    b->begin = next;
    pthread_mutex_lock(&r->lock);
    r->reading = b;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

mw_status reader_take(reader *r, int64_t begin, int64_t next, const float **x, const float **y) {
    reader_rest(r);
    if (r->ahead && r->buffers[1 - r->taken].begin == begin) r->taken = 1 - r->taken;
    buffer *b = &r->buffers[r->taken];
    if (b->begin != begin) {
        b->begin = begin;
        fill(r, b);
    }
    *x = b->x;
    *y = b->y;
    if (b->status != MW_OK) return b->status;
    r->replaced += b->replaced;
    b->replaced = 0;
    begin_reading(r, next);
    return MW_OK;
}

int64_t reader_replaced(const reader *r) {
    return r->replaced;
}

void reader_close(reader **slot) {
    reader *r = *slot;
    if (!r) return;
    if (r->ahead) {
        pthread_mutex_lock(&r->lock);
        r->closing = true;
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    free_reader(r);
    *slot = NULL;
}
