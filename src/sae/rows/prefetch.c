#include "sae/rows/prefetch.h"

#include <pthread.h>

/* Rows as the host reads them; where the device has its own memory, also there. */
typedef struct side {
    int64_t width; /* 0: there is none */
    float *host, *there;
} side;

typedef struct buffer {
    int64_t begin; /* -1: of no batch */
    mw_status status;
    int64_t replaced;
    side x, y;
} buffer;

struct reader {
    feed *feed;
    mw_backend *memory;
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

static mw_status send(const reader *r, const side *s) {
    size_t bytes = (size_t)(r->count * s->width) * sizeof *s->host;
    return s->there && bytes ? r->memory->ops->send(r->memory, s->there, s->host, bytes) : MW_OK;
}

/* What is replaced counts when the batch is taken: one that is read ahead of the last step never is. */
static void fill(reader *r, buffer *b) {
    int64_t before = r->feed->replaced;
    b->status = feed_read(r->feed, b->begin, r->count, b->x.host, b->y.host);
    if (b->status == MW_OK) b->status = send(r, &b->x);
    if (b->status == MW_OK) b->status = send(r, &b->y);
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

static mw_status make_side(const reader *r, int64_t width, side *out) {
    void *block = NULL;
    out->width = width;
    if (width == 0) return MW_OK;
    MW_TRY(r->memory->ops->host_alloc(r->memory, (size_t)(r->count * width) * sizeof *out->host, &block));
    out->host = block;
    return r->ahead ? mw_backend_floats(r->memory, r->count * width, &out->there) : MW_OK;
}

static mw_status make_buffers(reader *r) {
    for (int i = 0; i < (r->ahead ? 2 : 1); i++) {
        buffer *b = &r->buffers[i];
        b->begin = -1;
        MW_TRY(make_side(r, r->feed->in->width, &b->x));
        MW_TRY(make_side(r, r->feed->out ? r->feed->out->width : 0, &b->y));
    }
    return MW_OK;
}

static void free_side(const reader *r, side *s) {
    if (s->host) r->memory->ops->host_free(r->memory, s->host);
    if (s->there) r->memory->ops->free(r->memory, s->there);
}

static void free_reader(reader *r) {
    for (int i = 0; i < 2; i++) {
        free_side(r, &r->buffers[i].x);
        free_side(r, &r->buffers[i].y);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    mw_free(r);
}

mw_status reader_open(feed *f, int64_t count, mw_backend *memory, reader **out) {
    reader *r = mw_calloc(1, sizeof *r);
    if (!r) return MW_ERR_MEMORY;
    r->feed = f;
    r->memory = memory;
    r->count = count;
    r->ahead = !memory->ops->host_memory;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    mw_status status = make_buffers(r);
    if (status == MW_OK && r->ahead && pthread_create(&r->thread, NULL, read_ahead, r) != 0)
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

/* The other buffer, while the caller has this one. What the device still does with it was asked before. */
static mw_status begin_reading(reader *r, int64_t next) {
    buffer *b = &r->buffers[1 - r->taken];
    if (!r->ahead || next < 0 || b->begin == next) return MW_OK;
    MW_TRY(r->memory->ops->mark(r->memory));
    b->begin = next;
    pthread_mutex_lock(&r->lock);
    r->reading = b;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return MW_OK;
}

static mw_status read_now(reader *r, buffer *b, int64_t begin) {
    MW_TRY(r->memory->ops->mark(r->memory));
    b->begin = begin;
    fill(r, b);
    return MW_OK;
}

mw_status reader_take(reader *r, int64_t begin, int64_t next, const float **x, const float **y) {
    reader_rest(r);
    if (r->ahead && r->buffers[1 - r->taken].begin == begin) r->taken = 1 - r->taken;
    buffer *b = &r->buffers[r->taken];
    if (b->begin != begin) MW_TRY(read_now(r, b, begin));
    *x = r->ahead ? b->x.there : b->x.host;
    *y = r->ahead ? b->y.there : b->y.host;
    if (b->status != MW_OK) return b->status;
    r->replaced += b->replaced;
    b->replaced = 0;
    return begin_reading(r, next);
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
