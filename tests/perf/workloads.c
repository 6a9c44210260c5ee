/* Runs three small fixed workloads, one after the other; guard.sh counts the instructions of each call of `measured`.
 * step:      three steps of a TopK SAE with AuxK
 * forward:   the demo model over 3 sequences of 64 tokens, with the rows of a site copied to the host
 * tokenizer: a GPT-2 style tokenizer over a quarter of the demo corpus
 */
#include "bench.h"
#include "microw/model.h"
#include "microw/sae.h"
#include "microw/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct work {
    mw_backend *backend;
    mw_comm *comm;
    mw_sae *sae;
    mw_trainer *trainer;
    float *x;
    mw_model *model;
    mw_batch batch;
    mw_tokenizer *tokenizer;
    char *text;
    size_t length;
    mw_ids ids;
} work;

/* ---- a step ---------------------------------------------------------------------------------------------- */

enum { N = 1024, D = 64, K = 16, BATCH = 256, STEPS = 3 };

static void step_open(work *w) {
    mw_train_options o = {.batch = BATCH,
                          .steps = 100,
                          .lr = 1e-3,
                          .lr_w_dec = 1,
                          .lr_b_enc = 1,
                          .lr_b_dec = 1,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .clip_norm = 1,
                          .aux_k = 32,
                          .aux_coefficient = 1.0 / 32,
                          .dead_after = 100, /* most latents are dead after the first batch */
                          .decay = MW_DECAY_NONE};
    must(mw_sae_new(w->backend, &(mw_sae_shape){.variant = MW_TOPK, .n = N, .d = D, .k = K}, &w->sae));
    w->x = some(BATCH * D, sizeof *w->x);
    for (int i = 0; i < BATCH * D; i++) w->x[i] = mw_rng_normal(1, 0, (uint64_t)i);
    must(mw_sae_initialize(w->sae, w->x, NULL, BATCH, &o));
    must(mw_trainer_new(w->sae, w->comm, &o, 1, &w->trainer));
}

static void step_run(work *w) {
    for (int s = 0; s < STEPS; s++) must(mw_trainer_step(w->trainer, w->x, NULL, NULL));
}

/* ---- the forward pass ------------------------------------------------------------------------------------------ */

enum { SEQUENCES = 3, CONTEXT = 64, TOKENS = SEQUENCES * CONTEXT };

static mw_status copy_rows(void *self, const mw_hook_event *event) {
    return event->backend->ops->download(event->backend, self, event->x.data,
                                         (size_t)(event->x.shape[0] * event->x.shape[1]) * sizeof(float));
}

static void forward_open(work *w) {
    static int32_t ids[TOKENS];
    static int64_t length[SEQUENCES];
    mw_site site;
    mw_hook_id id;
    must(mw_model_open(MICROW_SOURCE "/configs/demo/model", "f32", w->backend, &w->model));
    must(mw_site_parse("2.resid_post", &site));
    w->x = some((size_t)(TOKENS * mw_model_site_width(w->model, site)), sizeof *w->x);
    for (int i = 0; i < TOKENS; i++) ids[i] = (int32_t)(i * 2654435761u % (uint64_t)mw_model_about(w->model)->vocab);
    for (int s = 0; s < SEQUENCES; s++) length[s] = CONTEXT;
    mw_hook hook = {.site = site, .kind = MW_DETECTOR, .call = copy_rows, .self = w->x, .name = "guard"};
    must(mw_hooks_attach(mw_model_hooks(w->model), &hook, &id));
    w->batch = (mw_batch){.n_seq = SEQUENCES, .ids = ids, .length = length};
}

static void forward_run(work *w) {
    must(mw_model_forward(w->model, &w->batch, NULL));
}

/* ---- the tokenizer --------------------------------------------------------------------------------------------- */

static void tokenizer_open(work *w) {
    must(mw_tokenizer_open(MICROW_SOURCE "/configs/demo/model/tokenizer.json", &w->tokenizer));
    must(mw_file_read(MICROW_SOURCE "/configs/demo/corpus.txt", &w->text, &w->length));
    w->length /= 4;
}

static void tokenizer_run(work *w) {
    for (char *line = w->text, *end = w->text + w->length; line < end;) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((stop ? stop : end) - line);
        must(mw_tokenizer_encode(w->tokenizer, line, n, &w->ids));
        line += n + 1;
    }
}

/* ---- all ------------------------------------------------------------------------------------------------------- */

typedef struct kind {
    const char *name;
    void (*open)(work *);
    void (*run)(work *);
} kind;

static const kind kinds[] = {{"step", step_open, step_run},
                             {"forward", forward_open, forward_run},
                             {"tokenizer", tokenizer_open, tokenizer_run}};

void measured(const kind *k, work *w);

/* guard.sh gives this name to callgrind. */
__attribute__((noinline)) void measured(const kind *k, work *w) {
    k->run(w);
}

static void close_all(work *w) {
    mw_trainer_free(&w->trainer);
    mw_sae_free(&w->sae);
    mw_model_free(&w->model);
    mw_tokenizer_free(&w->tokenizer);
    mw_ids_free(&w->ids);
    mw_free(w->text);
    mw_free(w->x);
    mw_comm_free(&w->comm);
    mw_backend_close(&w->backend);
}

int main(void) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        work w = {0};
        must(mw_backend_open("cpu", &w.backend));
        must(mw_comm_self(&w.comm));
        kinds[i].open(&w);
        kinds[i].run(&w); /* not counted: initializes what is made once, code of libraries included */
        measured(&kinds[i], &w);
        close_all(&w);
        puts(kinds[i].name);
    }
    return 0;
}
