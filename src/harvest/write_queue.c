/* Writes the blocks of a harvest in two threads: one digests a block while the other writes the one before it. */
#include "harvest/write_queue.h"
#include "store/block_digest.h"

#include <pthread.h>

enum { SLOTS = 4 }; /* one that is computed, one copied, one digested, one written */

enum { DIGEST, WRITE, STAGES };

/* A step in the ring, with what the first stage makes of it. */
typedef struct step {
    queue_slot slot;
    block_digest digest;
} step;

struct write_queue {
    mw_store_writer *writer;
    mw_backend *backend;
    int64_t n_sites;
    bool threaded;
    pthread_t thread[STAGES];
    int started; /* threads */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    step steps[SLOTS];
    digester digester;
    mw_status digested;                          /* the first failure of digesting: later steps pass it on */
    int64_t acquired, submitted, passed[STAGES]; /* steps */
    bool closing;
    mw_status status; /* of writing */
    double waiting;
};

static void digest_step(write_queue *q, step *s) {
    queue_slot *slot = &s->slot;
    if (slot->local == MW_OK) slot->local = q->digested;
    if (slot->block >= 0 && slot->local == MW_OK)
        slot->local = digest_block(&q->digester, slot->block, (const void *const *)slot->values, &s->digest);
    q->digested = slot->local;
}

static mw_status write_step(write_queue *q, const step *s) {
    const queue_slot *slot = &s->slot;
    return store_write_digested(q->writer, slot->block, (const void *const *)slot->values, &s->digest, slot->done,
                                slot->local);
}

/* Takes each step through a stage. Every rank writes the same number of steps: the ranks agree on a failure within a
 * step, so all stop at the same one. */
static void run_stage(write_queue *q, int stage) {
    const int64_t *before = stage == DIGEST ? &q->submitted : &q->passed[stage - 1];
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->passed[stage] == *before && !(q->closing && q->passed[stage] == q->submitted))
            pthread_cond_wait(&q->changed, &q->lock);
        if (q->passed[stage] == *before) break;
        step *s = &q->steps[q->passed[stage] % SLOTS];
        mw_status status = q->status;
        pthread_mutex_unlock(&q->lock);
        if (stage == DIGEST && status == MW_OK) digest_step(q, s);
        if (stage == WRITE && status == MW_OK) status = write_step(q, s);
        pthread_mutex_lock(&q->lock);
        if (stage == WRITE) q->status = status;
        q->passed[stage]++;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
}

static void *digest_steps(void *self) {
    run_stage(self, DIGEST);
    return NULL;
}

static void *write_steps(void *self) {
    run_stage(self, WRITE);
    return NULL;
}

static mw_status make_slots(write_queue *q, const mw_store_layout *layout) {
    size_t rows = (size_t)largest_block(layout), item = mw_dtype_size(layout->dtype);
    for (int i = 0; i < SLOTS; i++) {
        queue_slot *slot = &q->steps[i].slot;
        if (!(slot->values = mw_calloc((size_t)layout->n_sites, sizeof(void *)))) return MW_ERR_MEMORY;
        MW_TRY(block_digest_make(layout, &q->steps[i].digest));
        for (int64_t s = 0; s < layout->n_sites; s++) {
            size_t bytes = rows * (size_t)layout->widths[s] * item;
            MW_TRY(q->backend->ops->host_alloc(q->backend, bytes, &slot->values[s]));
        }
    }
    return MW_OK;
}

static void free_queue(write_queue *q) {
    for (int i = 0; i < SLOTS; i++) {
        queue_slot *slot = &q->steps[i].slot;
        for (int64_t s = 0; slot->values && s < q->n_sites; s++)
            q->backend->ops->host_free(q->backend, slot->values[s]);
        mw_free(slot->values);
        block_digest_free(&q->steps[i].digest);
    }
    digester_close(&q->digester);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->changed);
    mw_free(q);
}

static void end_threads(write_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->closing = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    while (q->started > 0) pthread_join(q->thread[--q->started], NULL);
}

static mw_status start_threads(write_queue *q) {
    void *(*const runs[STAGES])(void *) = {digest_steps, write_steps};
    for (; q->started < STAGES; q->started++) {
        if (pthread_create(&q->thread[q->started], NULL, runs[q->started], q) == 0) continue;
        end_threads(q);
        return mw_error(MW_ERR_MEMORY, "cannot start a writer thread");
    }
    return MW_OK;
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
    if (status == MW_OK) status = digester_open(layout, &q->digester);
    if (status == MW_OK && threaded) status = start_threads(q);
    if (status != MW_OK)
        free_queue(q);
    else
        *out = q;
    return status;
}

queue_slot *write_queue_acquire(write_queue *q) {
    double start = mw_seconds();
    pthread_mutex_lock(&q->lock);
    while (q->acquired - q->passed[WRITE] >= SLOTS && q->status == MW_OK) pthread_cond_wait(&q->changed, &q->lock);
    bool failed = q->status != MW_OK;
    pthread_mutex_unlock(&q->lock);
    q->waiting += mw_seconds() - start;
    return failed ? NULL : &q->steps[q->acquired++ % SLOTS].slot;
}

void write_queue_submit(write_queue *q) {
    if (!q->threaded) {
        double start = mw_seconds();
        step *s = &q->steps[q->submitted++ % SLOTS];
        digest_step(q, s);
        q->status = write_step(q, s);
        q->passed[WRITE]++;
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
    if (q->threaded) end_threads(q);
    mw_status status = q->status;
    free_queue(q);
    *slot = NULL;
    return status;
}

double write_queue_waiting(const write_queue *q) {
    return q->waiting;
}
