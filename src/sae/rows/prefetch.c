/* A thread that reads the next batch into the second of two buffers. */
#include "sae/rows/prefetch.h"

#include <pthread.h>

/* The rows of one view: in host memory, and a copy in device memory where the device has its own. */
typedef struct side {
    int64_t width; /* 0: no such view */
    float *host, *device;
} side;

typedef struct buffer {
    int64_t begin; /* position of its first row in the order; -1: empty */
    mw_status status;
    int64_t replaced;
    side x, y;
} buffer;

struct prefetcher {
    feed *feed;
    mw_backend *memory;
    int64_t count, replaced;
    bool ahead; /* rows are prefetched; else there is one buffer and no thread */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    buffer buffers[2];
    int taken;       /* the buffer whose rows the caller uses */
    buffer *reading; /* the buffer that the thread fills; NULL: none */
    bool closing;
};

static mw_status send(const prefetcher *p, const side *s) {
    size_t bytes = (size_t)(p->count * s->width) * sizeof *s->host;
    return s->device && bytes ? p->memory->ops->send(p->memory, s->device, s->host, bytes) : MW_OK;
}

/* Replaced rows are counted when the batch is taken: a batch that is prefetched but never taken does not count. */
static void fill(prefetcher *p, buffer *b) {
    int64_t before = p->feed->replaced;
    b->status = feed_read(p->feed, b->begin, p->count, b->x.host, b->y.host);
    if (b->status == MW_OK) b->status = send(p, &b->x);
    if (b->status == MW_OK) b->status = send(p, &b->y);
    b->replaced = p->feed->replaced - before;
    p->feed->replaced = before;
}

static void *run_thread(void *self) {
    prefetcher *p = self;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->reading && !p->closing) pthread_cond_wait(&p->changed, &p->lock);
        if (!p->reading) break;
        buffer *b = p->reading;
        pthread_mutex_unlock(&p->lock);
        fill(p, b);
        pthread_mutex_lock(&p->lock);
        p->reading = NULL;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static mw_status make_side(const prefetcher *p, int64_t width, side *out) {
    void *block = NULL;
    out->width = width;
    if (width == 0) return MW_OK;
    MW_TRY(p->memory->ops->host_alloc(p->memory, (size_t)(p->count * width) * sizeof *out->host, &block));
    out->host = block;
    return p->ahead ? mw_backend_floats(p->memory, p->count * width, &out->device) : MW_OK;
}

static mw_status make_buffers(prefetcher *p) {
    for (int i = 0; i < (p->ahead ? 2 : 1); i++) {
        buffer *b = &p->buffers[i];
        b->begin = -1;
        MW_TRY(make_side(p, p->feed->in->width, &b->x));
        MW_TRY(make_side(p, p->feed->out ? p->feed->out->width : 0, &b->y));
    }
    return MW_OK;
}

static void free_side(const prefetcher *p, side *s) {
    if (s->host) p->memory->ops->host_free(p->memory, s->host);
    if (s->device) p->memory->ops->free(p->memory, s->device);
}

static void free_prefetcher(prefetcher *p) {
    for (int i = 0; i < 2; i++) {
        free_side(p, &p->buffers[i].x);
        free_side(p, &p->buffers[i].y);
    }
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
    mw_free(p);
}

mw_status prefetch_open(feed *f, int64_t count, mw_backend *memory, prefetcher **out) {
    prefetcher *p = mw_calloc(1, sizeof *p);
    if (!p) return MW_ERR_MEMORY;
    p->feed = f;
    p->memory = memory;
    p->count = count;
    p->ahead = !memory->ops->host_memory;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    mw_status status = make_buffers(p);
    if (status == MW_OK && p->ahead && pthread_create(&p->thread, NULL, run_thread, p) != 0)
        status = mw_error(MW_ERR_MEMORY, "the prefetch thread cannot be started");
    if (status != MW_OK)
        free_prefetcher(p);
    else
        *out = p;
    return status;
}

void prefetch_wait(prefetcher *p) {
    pthread_mutex_lock(&p->lock);
    while (p->reading) pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

/* Fills the other buffer while the caller uses this one. The mark orders the copy behind the device's work on it. */
static mw_status begin_next(prefetcher *p, int64_t next) {
    buffer *b = &p->buffers[1 - p->taken];
    if (!p->ahead || next < 0 || b->begin == next) return MW_OK;
    MW_TRY(p->memory->ops->mark(p->memory));
    b->begin = next;
    pthread_mutex_lock(&p->lock);
    p->reading = b;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return MW_OK;
}

static mw_status read_now(prefetcher *p, buffer *b, int64_t begin) {
    MW_TRY(p->memory->ops->mark(p->memory));
    b->begin = begin;
    fill(p, b);
    return MW_OK;
}

mw_status prefetch_take(prefetcher *p, int64_t begin, int64_t next, const float **x, const float **y) {
    prefetch_wait(p);
    if (p->ahead && p->buffers[1 - p->taken].begin == begin) p->taken = 1 - p->taken;
    buffer *b = &p->buffers[p->taken];
    if (b->begin != begin) MW_TRY(read_now(p, b, begin));
    *x = p->ahead ? b->x.device : b->x.host;
    *y = p->ahead ? b->y.device : b->y.host;
    if (b->status != MW_OK) return b->status;
    p->replaced += b->replaced;
    b->replaced = 0;
    return begin_next(p, next);
}

int64_t prefetch_replaced(const prefetcher *p) {
    return p->replaced;
}

void prefetch_close(prefetcher **slot) {
    prefetcher *p = *slot;
    if (!p) return;
    if (p->ahead) {
        pthread_mutex_lock(&p->lock);
        p->closing = true;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    free_prefetcher(p);
    *slot = NULL;
}
