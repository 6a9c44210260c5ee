/* Predictions of a small model with SAEs: baselines beside the SAE, and intervals over sequences. */
#include "microw/evaluate.h"
#include "test.h"

enum { D = 128, ROWS = 512, SEQUENCES = 12 };

static mw_backend *backend;
static mw_comm *self;
static mw_model *model;
static mw_dataset *dataset;
static mw_store *store;
static mw_store_view view;
static float rows[ROWS * D];

static void open_all(void) {
    const char *path = MICROW_SOURCE "/configs/demo/corpus.txt";
    const mw_dataset_options options = {.paths = &path,
                                        .n_paths = 1,
                                        .split = MW_SPLIT_LINE,
                                        .context = 64,
                                        .truncate = true,
                                        .limit_documents = SEQUENCES};
    mw_tokenizer *tokenizer = NULL;
    for (int i = 0; i < ROWS * D; i++) rows[i] = mw_rng_normal(1, 2, (uint64_t)i);
    NEED_OK(mw_model_open(MICROW_SOURCE "/configs/demo/model", "f32", backend, &model));
    NEED_OK(mw_tokenizer_open(MICROW_SOURCE "/configs/demo/model", &tokenizer));
    NEED_OK(mw_dataset_load(&options, tokenizer, self, &dataset));
    NEED(dataset->n_sequences == SEQUENCES);
    mw_tokenizer_free(&tokenizer);
    NEED_OK(mw_store_of_array(rows, ROWS, D, "2.resid_post", &store));
    NEED_OK(mw_store_view_open(store, "2.resid_post", &view));
}

/* An SAE with plus and minus each axis: with k = 2 d it changes nothing. */
static mw_sae *make_axes(int64_t k) {
    mw_sae *sae = NULL;
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.n = 2 * D, .d = D, .k = k}, &sae));
    for (int64_t i = 0; i < 2 * D; i++) sae->w_enc[i * D + i / 2] = sae->w_dec[i * D + i / 2] = i % 2 ? -1 : 1;
    return sae;
}

static bool same(const mw_spliced *a, const mw_spliced *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static void baselines_beside_the_sae(void) {
    mw_sae *exact = make_axes(2 * D), *rough = make_axes(4);
    const mw_sae *const baselines[] = {rough, exact, rough};
    mw_evaluation e, alone;
    mw_evaluation_input input = {
        .model = model, .sae = exact, .in = &view, .dataset = dataset, .sequences = SEQUENCES, .untouched = -1};
    NEED_OK(mw_evaluate(&input, self, &alone));
    input.baselines = baselines;
    input.n_baselines = 3;
    NEED_OK(mw_evaluate(&input, self, &e));
    CHECK(e.tokens == dataset->n_ids - SEQUENCES && same(&e.spliced[0], &alone.spliced[0]));
    CHECK(same(&e.spliced[2], &e.spliced[0]) && same(&e.spliced[1], &e.spliced[3]));
    CHECK(e.spliced[0].ce == e.ce[MW_ABLATE_SAE] && e.spliced[0].kl == e.kl[MW_ABLATE_SAE]);
    CHECK(fabs(e.spliced[0].from_zero.value - 1) < 1e-5 && e.spliced[0].kl < 1e-5 && e.spliced[1].kl > 0.01);
    for (int i = 0; i < 4; i++) {
        const mw_spliced *s = &e.spliced[i];
        CHECK(fabs(s->from_zero.value - mw_recovered(e.ce[MW_ABLATE_NONE], s->ce, e.ce[MW_ABLATE_ZERO])) < 1e-12);
        CHECK(fabs(s->from_mean.value - mw_recovered(e.ce[MW_ABLATE_NONE], s->ce, e.ce[MW_ABLATE_MEAN])) < 1e-12);
        CHECK(s->from_zero.low <= s->from_zero.value && s->from_zero.value <= s->from_zero.high);
    }
    CHECK(e.spliced[1].from_zero.low < e.spliced[1].from_zero.high);
    input.n_baselines = MW_BASELINES + 1;
    CHECK_FAILS(MW_ERR_ARG, mw_evaluate(&input, self, &e));
    mw_sae_free(&exact);
    mw_sae_free(&rough);
}

/* Sums are those of sequences: how many there are in a pass does not matter, nor does their order. */
static void sequences_are_summed(void) {
    mw_sae *rough = make_axes(4);
    mw_evaluation e, halves[2];
    mw_evaluation_input input = {
        .model = model, .sae = rough, .in = &view, .dataset = dataset, .sequences = SEQUENCES, .untouched = -1};
    NEED_OK(mw_evaluate(&input, self, &e));
    input.sequences = SEQUENCES / 2;
    input.per_pass = 4;
    NEED_OK(mw_evaluate(&input, self, &halves[0]));
    input.first = SEQUENCES / 2;
    NEED_OK(mw_evaluate(&input, self, &halves[1]));
    double first = (double)halves[0].tokens / (double)e.tokens, second = (double)halves[1].tokens / (double)e.tokens;
    CHECK(halves[0].tokens + halves[1].tokens == e.tokens);
    for (int kind = 0; kind < MW_ABLATIONS; kind++) {
        CHECK(fabs(e.ce[kind] - first * halves[0].ce[kind] - second * halves[1].ce[kind]) < 1e-5);
        CHECK(fabs(e.kl[kind] - first * halves[0].kl[kind] - second * halves[1].kl[kind]) < 1e-5);
    }
    input.sequences = 1;
    NEED_OK(mw_evaluate(&input, self, &e));
    CHECK(isfinite(e.spliced[0].from_zero.value) && isnan(e.spliced[0].from_zero.low));
    mw_sae_free(&rough);
}

int main(void) {
    NEED_OK(mw_comm_self(&self));
    NEED_OK(mw_backend_open("cpu", &backend));
    open_all();
    RUN(baselines_beside_the_sae);
    RUN(sequences_are_summed);
    mw_store_close(&store);
    mw_dataset_free(&dataset);
    mw_model_free(&model);
    mw_backend_close(&backend);
    mw_comm_free(&self);
    return test_end();
}
