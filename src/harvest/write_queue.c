#include "harvest/write_queue.h"

#include <pthread.h>

enum { SLOTS = 3 };

struct write_queue {
    mw_store_writer *writer;
    mw_backend *backend;
    int64_t n_sites;
    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    queue_slot slots[SLOTS];
    int64_t taken, given, written; /* steps */
    bool closing;
    mw_status status;
    double waiting;
};

static mw_status write_slot(write_queue *p, const queue_slot *slot) {
    return mw_store_write_blocks(p->writer, slot->block, (const void *const *)slot->values, slot->done, slot->local);
}

/* Every rank writes the same number of steps: a failure is agreed upon inside a step, so all stop at the same one. */
static void *write_steps(void *self) {
    write_queue *p = self;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->written == p->given && !p->closing) pthread_cond_wait(&p->changed, &p->lock);
        if (p->written == p->given) break;
        queue_slot *slot = &p->slots[p->written % SLOTS];
        mw_status status = p->status;
        pthread_mutex_unlock(&p->lock);
        if (status == MW_OK) status = write_slot(p, slot);
        pthread_mutex_lock(&p->lock);
        p->status = status;
        p->written++;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static mw_status make_slots(write_queue *p, const mw_store_layout *layout) {
    size_t rows = (size_t)largest_block(layout), item = mw_dtype_size(layout->dtype);
    for (int i = 0; i < SLOTS; i++) {
        if (!(p->slots[i].values = mw_calloc((size_t)layout->n_sites, sizeof(void *)))) return MW_ERR_MEMORY;
        for (int64_t s = 0; s < layout->n_sites; s++) {
            size_t bytes = rows * (size_t)layout->widths[s] * item;
            MW_TRY(p->backend->ops->host_alloc(p->backend, bytes, &p->slots[i].values[s]));
        }
    }
    return MW_OK;
}

static void free_pipe(write_queue *p) {
    for (int i = 0; i < SLOTS; i++) {
        for (int64_t s = 0; p->slots[i].values && s < p->n_sites; s++)
            p->backend->ops->host_free(p->backend, p->slots[i].values[s]);
        mw_free(p->slots[i].values);
    }
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
    mw_free(p);
}

mw_status write_queue_open(mw_store_writer *writer, const mw_store_layout *layout, mw_backend *backend, bool threaded,
                           write_queue **out) {
    write_queue *p = mw_calloc(1, sizeof *p);
    if (!p) return MW_ERR_MEMORY;
    p->writer = writer;
    p->backend = backend;
    p->n_sites = layout->n_sites;
    p->threaded = threaded;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    mw_status status = make_slots(p, layout);
    if (status == MW_OK && threaded && pthread_create(&p->thread, NULL, write_steps, p) != 0)
        status = mw_error(MW_ERR_MEMORY, "a writer thread cannot be started");
    if (status != MW_OK)
        free_pipe(p);
    else
        *out = p;
    return status;
}

queue_slot *write_queue_take(write_queue *p) {
    double start = mw_seconds();
    pthread_mutex_lock(&p->lock);
    while (p->taken - p->written >= SLOTS && p->status == MW_OK) pthread_cond_wait(&p->changed, &p->lock);
    bool failed = p->status != MW_OK;
    pthread_mutex_unlock(&p->lock);
    p->waiting += mw_seconds() - start;
    return failed ? NULL : &p->slots[p->taken++ % SLOTS];
}

void write_queue_give(write_queue *p) {
    if (!p->threaded) {
        double start = mw_seconds();
        p->status = write_slot(p, &p->slots[p->given % SLOTS]);
        p->given++;
        p->written++;
        p->waiting += mw_seconds() - start;
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->given++;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

mw_status write_queue_close(write_queue **slot) {
    write_queue *p = *slot;
    if (p->threaded) {
        pthread_mutex_lock(&p->lock);
        p->closing = true;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    mw_status status = p->status;
    free_pipe(p);
    *slot = NULL;
    return status;
}

double write_queue_waiting(const write_queue *p) {
    return p->waiting;
}
