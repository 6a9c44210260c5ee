/* Writes the blocks of a harvest in a second thread. */
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
    int64_t acquired, submitted, written; /* steps */
    bool closing;
    mw_status status;
    double waiting;
};

static mw_status write_slot(write_queue *q, const queue_slot *slot) {
    return mw_store_write_blocks(q->writer, slot->block, (const void *const *)slot->values, slot->done, slot->local);
}

/* The writing thread. Every rank writes the same number of steps: the ranks agree on a failure within a step, so all
 * stop at the same one. */
static void *write_steps(void *self) {
    write_queue *q = self;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->written == q->submitted && !q->closing) pthread_cond_wait(&q->changed, &q->lock);
        if (q->written == q->submitted) break;
        queue_slot *slot = &q->slots[q->written % SLOTS];
        mw_status status = q->status;
        pthread_mutex_unlock(&q->lock);
        if (status == MW_OK) status = write_slot(q, slot);
        pthread_mutex_lock(&q->lock);
        q->status = status;
        q->written++;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static mw_status make_slots(write_queue *q, const mw_store_layout *layout) {
    size_t rows = (size_t)largest_block(layout), item = mw_dtype_size(layout->dtype);
    for (int i = 0; i < SLOTS; i++) {
        if (!(q->slots[i].values = mw_calloc((size_t)layout->n_sites, sizeof(void *)))) return MW_ERR_MEMORY;
        for (int64_t s = 0; s < layout->n_sites; s++) {
            size_t bytes = rows * (size_t)layout->widths[s] * item;
            MW_TRY(q->backend->ops->host_alloc(q->backend, bytes, &q->slots[i].values[s]));
        }
    }
    return MW_OK;
}

static void free_queue(write_queue *q) {
    for (int i = 0; i < SLOTS; i++) {
        for (int64_t s = 0; q->slots[i].values && s < q->n_sites; s++)
            q->backend->ops->host_free(q->backend, q->slots[i].values[s]);
        mw_free(q->slots[i].values);
    }
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->changed);
    mw_free(q);
}

mw_status write_queue_open(mw_store_writer *writer, const mw_store_layout *layout, mw_backend *backend, bool threaded,
                           write_queue **out) {
    write_queue *q = mw_calloc(1, sizeof *q);
    if (!q) return MW_ERR_MEMORY;
    q->writer = writer;
    q->backend = backend;
    q->n_sites = layout->n_sites;
    q->threaded = threaded;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    mw_status status = make_slots(q, layout);
    if (status == MW_OK && threaded && pthread_create(&q->thread, NULL, write_steps, q) != 0)
        status = mw_error(MW_ERR_MEMORY, "cannot start a writer thread");
    if (status != MW_OK)
        free_queue(q);
    else
        *out = q;
    return status;
}

queue_slot *write_queue_acquire(write_queue *q) {
    double start = mw_seconds();
    pthread_mutex_lock(&q->lock);
    while (q->acquired - q->written >= SLOTS && q->status == MW_OK) pthread_cond_wait(&q->changed, &q->lock);
    bool failed = q->status != MW_OK;
    pthread_mutex_unlock(&q->lock);
    q->waiting += mw_seconds() - start;
    return failed ? NULL : &q->slots[q->acquired++ % SLOTS];
}

void write_queue_submit(write_queue *q) {
    if (!q->threaded) {
        double start = mw_seconds();
        q->status = write_slot(q, &q->slots[q->submitted % SLOTS]);
        q->submitted++;
        q->written++;
        q->waiting += mw_seconds() - start;
        return;
    }
    pthread_mutex_lock(&q->lock);
    q->submitted++;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

mw_status write_queue_close(write_queue **slot) {
    write_queue *q = *slot;
    if (q->threaded) {
        pthread_mutex_lock(&q->lock);
        q->closing = true;
        pthread_cond_broadcast(&q->changed);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->thread, NULL);
    }
    mw_status status = q->status;
    free_queue(q);
    *slot = NULL;
    return status;
}

double write_queue_waiting(const write_queue *q) {
    return q->waiting;
}
