/* Activations of every family equal those of transformers (tools/make_golden_models.py). */
#include "microw/safetensors.h"
#include "model/model_private.h"
#include "device.h"
#include "test.h"

static const char *const families[] = {"apertus",
                                       "arcee",
                                       "bloom",
                                       "codegen",
                                       "cohere",
                                       "cohere2",
                                       "cwm",
                                       "ernie4_5",
                                       "exaone",
                                       "exaone4",
                                       "falcon",
                                       "falcon_alibi",
                                       "falcon_new",
                                       "gemma",
                                       "gemma2",
                                       "gemma3",
                                       "glm",
                                       "glm4",
                                       "gpt2",
                                       "gpt_bigcode",
                                       "gpt_bigcode_heads",
                                       "gpt_neo",
                                       "gpt_neox",
                                       "gpt_neox_serial",
                                       "gptj",
                                       "granite",
                                       "helium",
                                       "hunyuan_v1_dense",
                                       "hyperclovax",
                                       "internlm3",
                                       "iquestcoder",
                                       "jais2",
                                       "llama",
                                       "llama3",
                                       "ministral",
                                       "ministral3",
                                       "mistral",
                                       "mistral3",
                                       "mpt",
                                       "nanochat",
                                       "nemotron",
                                       "olmo",
                                       "olmo2",
                                       "olmo3",
                                       "opt",
                                       "opt_norms_last",
                                       "persimmon",
                                       "phi",
                                       "phi3",
                                       "phi3_long",
                                       "qwen2",
                                       "qwen3",
                                       "seed_oss",
                                       "smollm3",
                                       "stablelm",
                                       "stablelm_parallel",
                                       "starcoder2",
                                       "vaultgemma",
                                       "xglm"};

/* Seeds of tools/check_models.py, whose option --fixtures writes tests/golden/configurations. */
static const int seeds[] = {3000, 3021, 3022, 3053, 3063, 3099, 3105, 3106, 3111, 3127, 3156, 3162, 3175, 3183,
                            3211, 3213, 3214, 3218, 3232, 3255, 3274, 3295, 3310, 3312, 3314, 3320, 3323, 3328,
                            3330, 3354, 3366, 3370, 3379, 3401, 3424, 3446, 3448, 3473, 3475, 3477, 3478, 3490};

typedef struct watch {
    mw_collector collected;
    mw_tensor expected;
    const char *name;
} watch;

static void attach_all(mw_model *model, const mw_safetensors *golden, watch *watches, int *count) {
    for (int64_t i = 0; i < mw_safetensors_count(golden); i++) {
        const char *name = mw_safetensors_name(golden, i);
        if (strcmp(name, "ids") == 0) continue;
        mw_hook hook = {.kind = MW_DETECTOR, .call = mw_collect, .self = &watches[*count].collected, .name = name};
        mw_hook_id id;
        NEED_OK(mw_site_parse(name, &hook.site));
        NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
        watches[*count].name = name;
        NEED(mw_safetensors_find(golden, name, &watches[*count].expected));
        ++*count;
    }
}

/* The last residual stream, unembedded as directions and divided by the norm, equals the logits except for the norm's
 * bias, which adds the same to every row. */
static void check_unembedding(mw_model *model, const mw_safetensors *golden) {
    const mw_architecture *a = &model->arch;
    mw_tensor x, logits;
    char name[32];
    snprintf(name, sizeof name, "%lld.resid_post", (long long)a->n_layers - 1);
    NEED(mw_safetensors_find(golden, name, &x) && mw_safetensors_find(golden, "logits", &logits));
    int64_t rows = x.shape[0], d = a->d_model, vocab = a->vocab;
    float *made = mw_alloc((size_t)(rows * vocab) * sizeof *made),
          *want = mw_alloc((size_t)(rows * vocab) * sizeof *want);
    CHECK_OK(mw_model_unembed(model, x.data, rows, made));
    for (int64_t r = 0; r < rows; r++) {
        const float *row = (const float *)x.data + r * d;
        double mean = 0, square = 0;
        for (int64_t i = 0; i < d && a->family->norm.kind == NORM_LAYER; i++) mean += row[i] / (double)d;
        for (int64_t i = 0; i < d; i++) square += (row[i] - mean) * (row[i] - mean) / (double)d;
        for (int64_t v = 0; v < vocab; v++) {
            double logit = ((const float *)logits.data)[r * vocab + v], cap = a->final_softcap;
            want[r * vocab + v] = (float)(cap > 0 ? cap * atanh(logit / cap) : logit);
            if (!a->no_final_norm) made[r * vocab + v] = (float)(made[r * vocab + v] / sqrt(square + a->eps));
        }
    }
    for (int64_t v = 0; v < vocab && (a->family->norm.biased || a->family->head_bias);
         v++) { /* the same bias in every row */
        double bias = want[v] - made[v];
        for (int64_t r = 0; r < rows; r++) made[r * vocab + v] += (float)bias;
    }
    CHECK(relative_error(made, want, rows * vocab) < 1e-4); /* the tolerance of the sites */
    mw_free(made);
    mw_free(want);
}

static const char *device = "cpu";

/* `folder`: models/NAME or configurations/NAME. */
static void check_sites(const char *family, bool all) {
    char path[256];
    snprintf(path, sizeof path, MICROW_GOLDEN "/%s/golden.safetensors", family);
    mw_safetensors *golden = NULL;
    NEED_OK(mw_safetensors_open(path, &golden));
    mw_backend *backend = NULL;
    NEED_OK(mw_backend_open(device, &backend));
    mw_model *model = NULL;
    snprintf(path, sizeof path, MICROW_GOLDEN "/%s", family);
    NEED_OK(mw_model_open(path, "f32", backend, &model));
    watch watches[64] = {0};
    int count = 0;
    attach_all(model, golden, watches, &count);
    CHECK(!all || count > 15);
    mw_tensor ids;
    NEED(mw_safetensors_find(golden, "ids", &ids));
    int64_t length[2] = {ids.shape[1], ids.shape[1]};
    mw_batch batch = {.n_seq = ids.shape[0], .ids = ids.data, .length = length};
    CHECK(ids.shape[0] <= 2);
    CHECK_OK(mw_model_forward(model, &batch, NULL));
    for (int i = 0; i < count; i++) {
        const watch *w = &watches[i];
        CHECK(w->collected.rows == w->expected.shape[0] && w->collected.width == w->expected.shape[1]);
        if (w->collected.rows != w->expected.shape[0]) continue;
        double error = relative_error(w->collected.data, w->expected.data, mw_tensor_count(&w->expected));
        if (!(error < 1e-4)) fprintf(stderr, "%s %s: relative error %g\n", family, w->name, error);
        CHECK(error < 1e-4); /* f32 sums in another order: usually 1e-6 */
        mw_collector_free(&watches[i].collected);
    }
    if (all) check_unembedding(model, golden);
    mw_model_free(&model);
    mw_backend_close(&backend);
    mw_safetensors_free(&golden);
}

/* Two passes with a cache give the logits of one pass. */
static void check_cache(const char *family) {
    char path[256];
    snprintf(path, sizeof path, MICROW_GOLDEN "/models/%s", family);
    mw_backend *backend = NULL;
    NEED_OK(mw_backend_open(device, &backend));
    mw_model *model = NULL;
    NEED_OK(mw_model_open(path, "f32", backend, &model));
    int64_t vocab = mw_model_about(model)->vocab;
    int32_t whole[] = {5, 9, 2, 40, 41, 7, 3, 11, 60, 1, 2, 3}; /* sequences of 7 and 5 */
    int64_t lengths[] = {7, 5}, first[] = {4, 5}, second[] = {3, 0};
    int32_t head[] = {5, 9, 2, 40, 11, 60, 1, 2, 3}, tail[] = {41, 7, 3};
    float *expected = mw_calloc((size_t)(2 * vocab), sizeof(float)),
          *got = mw_calloc((size_t)(2 * vocab), sizeof(float));
    mw_batch one = {.n_seq = 2, .ids = whole, .length = lengths};
    CHECK_OK(mw_model_forward(model, &one, expected));
    mw_kv_cache *cache = NULL;
    NEED_OK(mw_kv_cache_new(model, 2, 16, &cache));
    mw_batch a = {.n_seq = 2, .ids = head, .length = first, .cache = cache};
    mw_batch b = {.n_seq = 2, .ids = tail, .length = second, .cache = cache};
    CHECK_OK(mw_model_forward(model, &a, got));
    CHECK_OK(mw_model_forward(model, &b, got)); /* row 1 keeps the logits of the first pass */
    CHECK(relative_error(got, expected, 2 * vocab) < 1e-5);
    mw_kv_cache_free(&cache);
    mw_free(expected);
    mw_free(got);
    mw_model_free(&model);
    mw_backend_close(&backend);
}

static void all_families(void) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char folder[64];
        snprintf(folder, sizeof folder, "models/%s", families[i]);
        check_sites(folder, true);
    }
}

/* A sample of the random models of tools/check_models.py: keys left out, old and new spelling, keys of other families,
 * shards and unneeded tensors. */
static void configurations(void) {
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        char folder[64];
        snprintf(folder, sizeof folder, "configurations/seed%d", seeds[i]);
        check_sites(folder, false);
    }
}

/* 8-bit floats with scales (tools/make_golden_fp8.py). */
static void quantized(void) {
    check_sites("fp8/qwen3", true);
    check_sites("fp8/e5m2", true);
    check_sites("fp8/ragged", true);
}

static void cached_passes_agree(void) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) check_cache(families[i]);
}

static mw_status look(void *self, const mw_hook_event *event) {
    (void)event;
    ++*(int *)self;
    return MW_OK;
}

/* In bf16, rows that only products read are written rounded; hooks that read them do not change the logits. */
static void hooks_change_nothing(void) {
    static const mw_site_kind read[] = {MW_ATTN_IN, MW_ATTN_Z, MW_MLP_IN, MW_MLP_ACT};
    mw_backend *backend = NULL;
    NEED_OK(mw_backend_open(device, &backend));
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[256];
        snprintf(path, sizeof path, MICROW_GOLDEN "/models/%s", families[i]);
        mw_model *model = NULL;
        NEED_OK(mw_model_open(path, "bf16", backend, &model));
        int64_t vocab = mw_model_about(model)->vocab, lengths[] = {7, 5};
        int32_t ids[] = {5, 9, 2, 40, 41, 7, 3, 11, 60, 1, 2, 3};
        float *bare = mw_calloc((size_t)(2 * vocab), sizeof *bare),
              *hooked = mw_calloc((size_t)(2 * vocab), sizeof *bare);
        mw_batch batch = {.n_seq = 2, .ids = ids, .length = lengths};
        CHECK_OK(mw_model_forward(model, &batch, bare));
        int seen = 0;
        for (int k = 0; k < 4; k++) {
            mw_hook hook = {.site = {0, read[k]}, .kind = MW_DETECTOR, .call = look, .self = &seen, .name = "look"};
            mw_hook_id id;
            NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
            CHECK_OK(mw_model_forward(model, &batch, hooked));
            CHECK(memcmp(bare, hooked, (size_t)(2 * vocab) * sizeof *bare) == 0);
        }
        CHECK(seen == 4 + 3 + 2 + 1);
        mw_free(bare);
        mw_free(hooked);
        mw_model_free(&model);
    }
    mw_backend_close(&backend);
}

/* longrope: sequences of a batch have the factors of their own lengths, and a text that outgrows the original context
 * continues as if it had been read at once. */
static void longrope(void) {
    mw_backend *backend = NULL;
    mw_model *model = NULL;
    NEED_OK(mw_backend_open(device, &backend));
    NEED_OK(mw_model_open(MICROW_GOLDEN "/models/phi3_long", "f32", backend, &model)); /* original context: 8 */
    int64_t vocab = mw_model_about(model)->vocab;
    int32_t ids[] = {5, 9, 2, 40, 41, 11, 60, 1, 2, 3, 7, 8, 9, 30}; /* of 5 and 9 tokens */
    int64_t lengths[] = {5, 9}, one = 1;
    float *both = mw_calloc((size_t)(2 * vocab), sizeof *both), *alone = mw_calloc((size_t)vocab, sizeof *alone);
    CHECK_OK(mw_model_forward(model, &(mw_batch){.n_seq = 2, .ids = ids, .length = lengths}, both));
    CHECK_OK(mw_model_forward(model, &(mw_batch){.n_seq = 1, .ids = ids, .length = lengths}, alone));
    CHECK(relative_error(alone, both, vocab) < 1e-5);
    CHECK_OK(mw_model_forward(model, &(mw_batch){.n_seq = 1, .ids = ids + 5, .length = lengths + 1}, alone));
    CHECK(relative_error(alone, both + vocab, vocab) < 1e-5);

    int32_t *out[2] = {NULL, NULL}, text[64];
    int64_t made[2];
    mw_batch prompts = {.n_seq = 2, .ids = ids, .length = lengths};
    mw_sampling how = {.max_new_tokens = 7, .top_p = 1, .stop_id = -1};
    NEED_OK(mw_generate(model, &prompts, &how, out, made));
    memcpy(text, ids, 5 * sizeof *text);
    for (int64_t n = 5; n < 12; n++) { /* read at once, token by token */
        CHECK_OK(mw_model_forward(model, &(mw_batch){.n_seq = 1, .ids = text, .length = &n}, alone));
        int32_t best = 0;
        for (int32_t i = 1; i < vocab; i++) best = alone[i] > alone[best] ? i : best;
        CHECK(out[0][n - 5] == best);
        text[n] = out[0][n - 5];
    }
    mw_kv_cache *cache = NULL;
    NEED_OK(mw_kv_cache_new(model, 1, 16, &cache));
    int64_t eight = 8;
    CHECK_OK(mw_model_forward(model, &(mw_batch){.n_seq = 1, .ids = ids, .length = &eight, .cache = cache}, alone));
    CHECK_SAYS(MW_ERR_ARG, "the cached keys are those of a shorter text",
               mw_model_forward(model, &(mw_batch){.n_seq = 1, .ids = ids, .length = &one, .cache = cache}, alone));
    mw_kv_cache_free(&cache);
    for (int i = 0; i < 2; i++) mw_free(out[i]);
    mw_free(both);
    mw_free(alone);
    mw_model_free(&model);
    mw_backend_close(&backend);
}

int main(int argc, char **argv) {
    if (argc > 1) device = argv[1];
    if (!test_has_device(device)) return TEST_SKIPPED;
    RUN(all_families);
    RUN(configurations);
    RUN(quantized);
    RUN(cached_passes_agree);
    RUN(hooks_change_nothing);
    RUN(longrope);
    return test_end();
}
