/* Hooks at work, generation, dtypes, and models that are refused. */
#include "microw/model.h"
#include "microw/tokenizer.h"
#include "test.h"

#include <unistd.h>

static mw_backend *backend;
static const int32_t ids[12] = {5, 9, 2, 40, 41, 7, 3, 11, 60, 1, 2, 3};

static mw_model *open_family(const char *family, const char *dtype) {
    char path[256];
    mw_model *model = NULL;
    snprintf(path, sizeof path, MICROW_GOLDEN "/models/%s", family);
    NEED_OK(mw_model_open(path, dtype, backend, &model));
    return model;
}

static mw_hook_id attach(mw_model *m, const char *site, mw_hook_kind kind, mw_hook_call call, void *self) {
    mw_hook hook = {.kind = kind, .call = call, .self = self, .name = site};
    mw_hook_id id = 0;
    NEED_OK(mw_site_parse(site, &hook.site));
    NEED_OK(mw_hooks_attach(mw_model_hooks(m), &hook, &id));
    return id;
}

static void pass(mw_model *m) {
    int64_t length[2] = {7, 5};
    mw_batch batch = {.n_seq = 2, .ids = ids, .length = length};
    NEED_OK(mw_model_forward(m, &batch, NULL));
}

/* Controllers compose in attach order: (x * 2 + 3), then x * 10; a detector between sees the first alone. */
static void controllers_compose(void) {
    mw_model *m = open_family("gpt2", "f32");
    int64_t width = mw_model_about(m)->d_model;
    float *three = mw_alloc((size_t)width * sizeof *three);
    for (int64_t i = 0; i < width; i++) three[i] = 3;
    mw_edit_rule first = {.factor = 2, .vector = three}, second = {.factor = 10};
    mw_collector before = {0}, between = {0}, after = {0};
    attach(m, "1.resid_pre", MW_DETECTOR, mw_collect, &before);
    mw_hook_id one = attach(m, "1.resid_pre", MW_CONTROLLER, mw_apply_edit, &first);
    attach(m, "1.resid_pre", MW_DETECTOR, mw_collect, &between);
    mw_hook_id two = attach(m, "1.resid_pre", MW_CONTROLLER, mw_apply_edit, &second);
    attach(m, "1.resid_pre", MW_DETECTOR, mw_collect, &after);
    pass(m);
    for (int64_t i = 0; i < 12 * width; i++) {
        CHECK(between.data[i] == before.data[i] * 2 + 3);
        CHECK(after.data[i] == between.data[i] * 10);
    }
    after.rows = between.rows = before.rows = 0;
    CHECK(mw_hooks_enable(mw_model_hooks(m), one, false));
    pass(m);
    CHECK(after.data[0] == before.data[0] * 10);
    after.rows = between.rows = before.rows = 0;
    CHECK(mw_hooks_detach(mw_model_hooks(m), two) && !mw_hooks_detach(mw_model_hooks(m), two));
    mw_hooks_enable(mw_model_hooks(m), one, true);
    mw_hooks_use_controllers(mw_model_hooks(m), false);
    pass(m);
    CHECK(after.data[0] == before.data[0] && after.rows == 12);
    mw_collector_free(&before);
    mw_collector_free(&between);
    mw_collector_free(&after);
    mw_free(three);
    mw_model_free(&m);
}

/* What a controller changes reaches the layers after it. */
static void edits_reach_later_layers(void) {
    mw_model *m = open_family("llama", "f32");
    mw_collector clean = {0}, edited = {0};
    mw_hook_id id = attach(m, "logits", MW_DETECTOR, mw_collect, &clean);
    pass(m);
    mw_hooks_detach(mw_model_hooks(m), id);
    mw_edit_rule ablate = {.factor = 0};
    attach(m, "0.attn_z", MW_CONTROLLER, mw_apply_edit, &ablate);
    mw_collector out = {0};
    attach(m, "0.attn_out", MW_DETECTOR, mw_collect, &out);
    attach(m, "logits", MW_DETECTOR, mw_collect, &edited);
    pass(m);
    for (int64_t i = 0; i < out.rows * out.width; i++) CHECK(out.data[i] == 0); /* no bias in this family */
    CHECK(relative_error(edited.data, clean.data, clean.rows * clean.width) > 1e-3);
    mw_collector_free(&clean);
    mw_collector_free(&edited);
    mw_collector_free(&out);
    mw_model_free(&m);
}

static mw_status stop(void *self, const mw_hook_event *event) {
    (void)event;
    ++*(int *)self;
    return MW_STOP;
}

static mw_status fail(void *self, const mw_hook_event *event) {
    (void)self;
    (void)event;
    return MW_ERR_STATE;
}

static void stopping_and_failing(void) {
    mw_model *m = open_family("gpt_neox", "f32");
    int stops = 0;
    mw_collector late = {0};
    mw_hook_id id = attach(m, "0.attn_q", MW_DETECTOR, stop, &stops);
    attach(m, "1.resid_post", MW_DETECTOR, mw_collect, &late);
    pass(m);
    CHECK(stops == 1 && late.rows == 0);
    mw_hooks_detach(mw_model_hooks(m), id);
    id = attach(m, "1.mlp_act", MW_CONTROLLER, fail, NULL);
    int64_t length = 12;
    mw_batch batch = {.n_seq = 1, .ids = ids, .length = &length};
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_STATE, mw_model_forward(m, &batch, NULL));
    mw_hook missing = {.site = {0, MW_RESID_MID}, .call = stop}; /* a parallel residual has none */
    CHECK_FAILS(MW_ERR_CONFIG, mw_hooks_attach(mw_model_hooks(m), &missing, &id));
    missing.site = (mw_site){2, MW_RESID_POST};
    CHECK_FAILS(MW_ERR_CONFIG, mw_hooks_attach(mw_model_hooks(m), &missing, &id));
    int32_t outside = 61;
    length = 1;
    batch.ids = &outside;
    CHECK_FAILS(MW_ERR_ARG, mw_model_forward(m, &batch, NULL));
    length = 65;
    batch.ids = ids;
    CHECK_FAILS(MW_ERR_ARG, mw_model_forward(m, &batch, NULL)); /* longer than the context: seen before ids are read */
    mw_log_quiet(false);
    mw_collector_free(&late);
    mw_model_free(&m);
}

static void statistics_match(void) {
    mw_model *m = open_family("qwen2", "f32");
    mw_statistics s = {0};
    mw_collector c = {0};
    attach(m, "0.mlp_out", MW_DETECTOR, mw_measure, &s);
    attach(m, "0.mlp_out", MW_DETECTOR, mw_collect, &c);
    pass(m);
    pass(m);
    CHECK(s.rows == 24 && c.rows == 24);
    for (int64_t i = 0; i < s.width; i++) {
        double mean = 0, variance = 0;
        for (int64_t r = 0; r < 24; r++) mean += c.data[r * s.width + i] / 24.0;
        for (int64_t r = 0; r < 24; r++) variance += pow(c.data[r * s.width + i] - mean, 2) / 24.0;
        CHECK(fabs(s.mean[i] - mean) < 1e-9 && fabs(s.m2[i] / 24.0 - variance) < 1e-9);
    }
    mw_statistics_free(&s);
    mw_collector_free(&c);
    mw_model_free(&m);
}

/* A batch and its parts give the same rows (attention does not leak), and 16-bit weights come close. */
static void batches_and_dtypes(void) {
    mw_model *m = open_family("gemma2", "f32");
    int64_t vocab = mw_model_about(m)->vocab, both[2] = {7, 5}, second = 5;
    float *together = mw_alloc((size_t)(2 * vocab) * sizeof *together),
          *alone = mw_alloc((size_t)vocab * sizeof *alone);
    mw_batch batch = {.n_seq = 2, .ids = ids, .length = both}, part = {.n_seq = 1, .ids = ids + 7, .length = &second};
    CHECK_OK(mw_model_forward(m, &batch, together));
    CHECK_OK(mw_model_forward(m, &part, alone));
    CHECK(relative_error(together + vocab, alone, vocab) < 1e-5);
    mw_model_free(&m);
    static const char *const narrow[] = {"bf16", "f16"};
    for (int i = 0; i < 2; i++) {
        m = open_family("gemma2", narrow[i]);
        CHECK_OK(mw_model_forward(m, &part, alone));
        CHECK(relative_error(alone, together + vocab, vocab) < (i ? 2e-3 : 3e-2)); /* 11 and 8 bits of mantissa */
        mw_model_free(&m);
    }
    mw_free(together);
    mw_free(alone);
}

/* Greedy generation over the cache equals argmax of whole passes. */
static void generation(void) {
    mw_model *m = open_family("mistral", "f32"); /* a window of 5: the cache must forget rightly */
    int64_t vocab = mw_model_about(m)->vocab, length[2] = {4, 6}, made[2];
    int32_t *out[2], row[64];
    mw_batch prompts = {.n_seq = 2, .ids = ids, .length = length};
    mw_sampling how = {.max_new_tokens = 9, .top_p = 1, .stop_id = -1};
    NEED_OK(mw_generate(m, &prompts, &how, out, made));
    float *logits = mw_alloc((size_t)vocab * sizeof *logits);
    memcpy(row, ids + 4, 6 * sizeof *row);
    for (int i = 0; i < 9; i++) {
        int64_t n = 6 + i;
        mw_batch whole = {.n_seq = 1, .ids = row, .length = &n};
        NEED_OK(mw_model_forward(m, &whole, logits));
        int32_t best = 0;
        for (int32_t v = 1; v < vocab; v++)
            if (logits[v] > logits[best]) best = v;
        CHECK(out[1][i] == best);
        row[n] = out[1][i];
    }
    CHECK(made[0] == 9 && made[1] == 9);
    mw_free(out[0]);
    mw_free(out[1]);
    how = (mw_sampling){.max_new_tokens = 1000, .temperature = 0.9, .top_k = 5, .top_p = 0.8, .seed = 3, .stop_id = -1};
    int32_t *again[2];
    int64_t made_again[2];
    NEED_OK(mw_generate(m, &prompts, &how, out, made));
    NEED_OK(mw_generate(m, &prompts, &how, again, made_again));
    CHECK(made[0] == 60 && made[1] == 58);                   /* stops at the context of 64 */
    CHECK(memcmp(out[0], again[0], 60 * sizeof **out) == 0); /* a function of seed, sequence and step */
    for (int s = 0; s < 2; s++) {
        mw_free(out[s]);
        mw_free(again[s]);
    }
    mw_free(logits);
    mw_model_free(&m);
}

/* ---- models that must be refused ------------------------------------------------------------------------ */

static mw_status open_edited(const char *sed) {
    char folder[] = "/tmp/microw-model-XXXXXX", command[640];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command, "cp %s/models/llama/*.json %s/models/llama/model.safetensors %s && cd %s && %s",
             MICROW_GOLDEN, MICROW_GOLDEN, folder, folder, sed);
    NEED(system(command) == 0);
    mw_model *m = NULL;
    mw_log_quiet(true);
    mw_status status = mw_model_open(folder, "f32", backend, &m);
    mw_log_quiet(false);
    mw_model_free(&m);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
    return status;
}

static void bad_models(void) {
    CHECK(open_edited("true") == MW_OK);
    CHECK(open_edited("rm config.json") == MW_ERR_IO);
    CHECK(open_edited("rm model.safetensors") == MW_ERR_IO);
    CHECK(open_edited("truncate -s 5000 model.safetensors") == MW_ERR_FORMAT);
    CHECK(open_edited("truncate -s -1 model.safetensors") == MW_ERR_FORMAT);
    CHECK(open_edited("sed -i 's/\"model_type\": \"llama\"/\"model_type\": \"mamba\"/' config.json") ==
          MW_ERR_UNSUPPORTED);
    CHECK(open_edited("sed -i 's/\"hidden_size\": 24/\"hidden_size\": 32/' config.json") == MW_ERR_FORMAT);
    CHECK(open_edited("sed -i 's/\"vocab_size\": 61/\"vocab_size\": 62/' config.json") == MW_ERR_FORMAT);
    CHECK(open_edited("sed -i 's/\"num_hidden_layers\": 2/\"num_hidden_layers\": 3/' config.json") == MW_ERR_FORMAT);
    CHECK(open_edited("sed -i 's/\"num_hidden_layers\": 2/\"num_hidden_layers\": -2/' config.json") == MW_ERR_FORMAT);
    CHECK(open_edited("sed -i 's/\"hidden_act\": \"silu\"/\"hidden_act\": \"mish\"/' config.json") ==
          MW_ERR_UNSUPPORTED);
    CHECK(open_edited("sed -i 's/\"num_attention_heads\": 4/\"num_attention_heads\": 3/' config.json") ==
          MW_ERR_FORMAT);
    CHECK(open_edited("echo '{' > config.json") == MW_ERR_FORMAT);
    mw_model *m = NULL;
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_IO, mw_model_open("no/such/folder/at/all", "f32", backend, &m));
    CHECK_FAILS(MW_ERR_CONFIG, mw_model_open(MICROW_GOLDEN "/models/llama", "f8", backend, &m));
    mw_log_quiet(false);
}

/* Hub ids are looked up in the cache's layout; nothing is fetched. */
static void hub_cache(void) {
    char folder[] = "/tmp/microw-hub-XXXXXX", command[640];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command,
             "mkdir -p %s/hub/models--org--tiny/refs %s/hub/models--org--tiny/snapshots && printf abc > "
             "%s/hub/models--org--tiny/refs/main && cp -r %s/models/llama %s/hub/models--org--tiny/snapshots/abc",
             folder, folder, folder, MICROW_GOLDEN, folder);
    NEED(system(command) == 0);
    setenv("HF_HOME", folder, 1);
    mw_model *m = NULL;
    CHECK_OK(mw_model_open("org/tiny", "f32", backend, &m));
    mw_model_free(&m);
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_IO, mw_model_open("org/huge", "f32", backend, &m));
    mw_log_quiet(false);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

/* The real model of the shared data: the five largest logits after a prompt, as numpy found them. */
static void stories260k(void) {
    static const struct {
        int32_t id;
        double logit;
    } top[] = {{432, 17.79939792770675},
               {383, 14.281258887398627},
               {322, 9.70965077965036},
               {353, 9.587289235038655},
               {323, 9.134242860470705}};
    mw_model *m = NULL;
    mw_tokenizer *t = NULL;
    NEED_OK(mw_model_open(MICROW_DATA "/stories260K-hf", "f32", backend, &m));
    NEED_OK(mw_tokenizer_open(MICROW_DATA "/stories260K-hf", &t));
    mw_ids prompt = {0};
    static const int32_t expected[] = {1, 403, 407, 261, 378};
    NEED_OK(mw_ids_add(&prompt, mw_tokenizer_bos(t)));
    NEED_OK(mw_tokenizer_encode(t, "Once upon a time", 16, &prompt));
    CHECK(prompt.count == 5 && memcmp(prompt.data, expected, sizeof expected) == 0);
    float logits[512];
    mw_batch batch = {.n_seq = 1, .ids = prompt.data, .length = &prompt.count};
    CHECK_OK(mw_model_forward(m, &batch, logits));
    for (int i = 0; i < 5; i++) CHECK(fabs(logits[top[i].id] - top[i].logit) < 1e-4 * top[0].logit);
    mw_ids_free(&prompt);
    mw_tokenizer_free(&t);
    mw_model_free(&m);
}

/* "data": only what needs the real model. */
int main(int argc, char **argv) {
    bool data = argc > 1 && strcmp(argv[1], "data") == 0;
    if (data && access(MICROW_DATA "/stories260K-hf/config.json", R_OK) != 0) return TEST_SKIPPED;
    NEED_OK(mw_backend_open("cpu", &backend));
    if (data) {
        RUN(stories260k);
        mw_backend_close(&backend);
        return test_end();
    }
    RUN(controllers_compose);
    RUN(edits_reach_later_layers);
    RUN(stopping_and_failing);
    RUN(statistics_match);
    RUN(batches_and_dtypes);
    RUN(generation);
    RUN(bad_models);
    RUN(hub_cache);
    mw_backend_close(&backend);
    return test_end();
}
