/* Models: hooks during a pass, generation, dtypes, and models that are refused. */
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

/* Controllers apply in attach order: x * 2 + 3, then x * 10; a detector between them sees the first one only. */
static void controllers_compose(void) {
    mw_model *m = open_family("gpt2", "f32");
    int64_t width = mw_model_about(m)->d_model;
    float *three = mw_alloc((size_t)width * sizeof *three);
    for (int64_t i = 0; i < width; i++) three[i] = 3;
    mw_affine_rule first = {.factor = 2, .vector = three}, second = {.factor = 10};
    mw_collector before = {0}, between = {0}, after = {0};
    attach(m, "1.resid_pre", MW_DETECTOR, mw_collect, &before);
    mw_hook_id one = attach(m, "1.resid_pre", MW_CONTROLLER, mw_apply_affine, &first);
    attach(m, "1.resid_pre", MW_DETECTOR, mw_collect, &between);
    mw_hook_id two = attach(m, "1.resid_pre", MW_CONTROLLER, mw_apply_affine, &second);
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

/* The edits of a controller reach later layers. */
static void edits_reach_later_layers(void) {
    mw_model *m = open_family("llama", "f32");
    mw_collector clean = {0}, edited = {0};
    mw_hook_id id = attach(m, "logits", MW_DETECTOR, mw_collect, &clean);
    pass(m);
    mw_hooks_detach(mw_model_hooks(m), id);
    mw_affine_rule ablate = {.factor = 0};
    attach(m, "0.attn_z", MW_CONTROLLER, mw_apply_affine, &ablate);
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
    mw_hook missing = {.site = {0, MW_RESID_MID}, .call = stop}; /* absent with a parallel residual */
    CHECK_FAILS(MW_ERR_CONFIG, mw_hooks_attach(mw_model_hooks(m), &missing, &id));
    missing.site = (mw_site){2, MW_RESID_POST};
    CHECK_FAILS(MW_ERR_CONFIG, mw_hooks_attach(mw_model_hooks(m), &missing, &id));
    int32_t outside = 61;
    length = 1;
    batch.ids = &outside;
    CHECK_FAILS(MW_ERR_ARG, mw_model_forward(m, &batch, NULL));
    length = 65;
    batch.ids = ids;
    /* longer than the context: refused before ids are read */
    CHECK_FAILS(MW_ERR_ARG, mw_model_forward(m, &batch, NULL));
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

/* A batch and its parts give the same rows (no attention across sequences); 16-bit weights are close. */
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

/* Greedy generation with the cache equals the argmax of whole passes. */
static void generation(void) {
    mw_model *m = open_family("mistral", "f32"); /* a window of 5: older keys must have no effect */
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
    CHECK(memcmp(out[0], again[0], 60 * sizeof **out) == 0); /* depends on seed, sequence and step only */
    for (int s = 0; s < 2; s++) {
        mw_free(out[s]);
        mw_free(again[s]);
    }
    mw_free(logits);
    mw_model_free(&m);
}

/* ---- models that are refused ------------------------------------------------------------------------ */

/* Opens a copy of a golden model that a shell command changes. */
static mw_status open_copy(const char *family, const char *sed, mw_model **out) {
    char folder[] = "/tmp/microw-model-XXXXXX", command[960];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command, "cp %s/models/%s/*.json %s/models/%s/model.safetensors %s && cd %s && %s",
             MICROW_GOLDEN, family, MICROW_GOLDEN, family, folder, folder, sed);
    NEED(system(command) == 0);
    mw_status status = mw_model_open(folder, "f32", backend, out);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
    return status;
}

static mw_status open_changed(const char *family, const char *sed) {
    mw_model *m = NULL;
    mw_status status = open_copy(family, sed, &m);
    mw_model_free(&m);
    return status;
}

static mw_status open_edited(const char *sed) {
    mw_log_quiet(true);
    mw_status status = open_changed("llama", sed);
    mw_log_quiet(false);
    return status;
}

/* Opens a copy of a model with `key` set to `value`, which may hold more members, at the start of config.json. */
static mw_status open_with(const char *family, const char *key, const char *value) {
    char edit[512];
    snprintf(edit, sizeof edit,
             "python3 -c 'import json; c = json.load(open(\"config.json\")); c.pop(\"%s\", 0); "
             "t = json.dumps(c); open(\"config.json\", \"w\").write(\"{\\\"%s\\\": %s,\" + t[1:])'",
             key, key, value);
    return open_changed(family, edit);
}

/* Every eos_token_id of config.json and generation_config.json ends a text; a model without one has none of its own. */
static void stop_ids(void) {
    static const char both[] =
        "python3 -c 'import json; c = json.load(open(\"config.json\")); c[\"eos_token_id\"] = [5, -1]; "
        "json.dump(c, open(\"config.json\", \"w\")); "
        "json.dump({\"eos_token_id\": [5, 7, 1000000]}, open(\"generation_config.json\", \"w\"))'";
    static const char none[] =
        "python3 -c 'import json; c = json.load(open(\"config.json\")); c[\"eos_token_id\"] = None; "
        "json.dump(c, open(\"config.json\", \"w\"))'";
    mw_sampling how = {0};
    mw_model *m = NULL;
    NEED_OK(open_copy("llama", both, &m));
    mw_model_stop_at(m, NULL, &how);
    CHECK(how.n_stop_ids == 2 && how.stop_ids[0] == 5 && how.stop_ids[1] == 7 && how.stop_id == -1);
    mw_model_free(&m);
    NEED_OK(open_copy("llama", none, &m));
    mw_model_stop_at(m, NULL, &how);
    CHECK(how.n_stop_ids == 0 && how.stop_id == -1);
    mw_model_free(&m);
    CHECK_SAYS(MW_ERR_FORMAT, "'eos_token_id': expected token ids, found the text '2'",
               open_with("llama", "eos_token_id", "[1, \\\"2\\\"]"));
}

/* A value of a wrong type is an error, not an absent value. */
static void wrong_types(void) {
    static const struct {
        const char *family, *key, *value, *message;
    } bad[] = {
        {"gpt2", "layer_norm_epsilon", "\\\"1e-3\\\"",
         "'layer_norm_epsilon': expected a finite number, found the text '1e-3'"},
        {"gpt2", "layer_norm_epsilon", "NaN", "'layer_norm_epsilon': expected a finite number, found NaN"},
        {"gpt2", "layer_norm_epsilon", "1e400", "found 1e400"},
        {"gpt2", "n_layer", "2.0", "'n_layer': expected a whole number from 1 to 1024, found 2"},
        {"gpt2", "n_layer", "1000000000000000000000", "found 1e+21"},
        {"gpt2", "n_head", "-4", "'n_head': expected a whole number from 1 to 65536, found -4"},
        {"gpt2", "activation_function", "3", "'activation_function': expected a text, found 3"},
        {"gpt2", "tie_word_embeddings", "1", "'tie_word_embeddings': expected true or false, found 1"},
        {"gpt2", "scale_attn_weights", "\\\"yes\\\"", "'scale_attn_weights': expected true or false"},
        {"gpt2", "model_type", "[]", "'model_type': expected a text, found a list"},
        {"llama", "rms_norm_eps", "true", "'rms_norm_eps': expected a finite number, found true"},
        {"llama", "rope_parameters", "3", "'rope_parameters': expected an object, found 3"},
        {"llama", "rope_parameters", "{\\\"rope_theta\\\": Infinity}", "'rope_theta': expected a finite number"},
        {"llama", "rope_parameters", "{\\\"rope_type\\\": 1}", "'rope_type': expected a text, found 1"},
        {"llama", "attention_bias", "0", "'attention_bias': expected true or false, found 0"},
        {"llama", "head_dim", "6.5", "'head_dim': expected a whole number from 1 to 65536, found 6.5"},
        {"gpt_neox", "use_parallel_residual", "\\\"\\\"", "'use_parallel_residual': expected true or false"},
        {"gemma2", "sliding_window", "\\\"5\\\"", "'sliding_window': expected a whole number"},
        {"gemma2", "query_pre_attn_scalar", "{}", "'query_pre_attn_scalar': expected a finite number, found an object"},
        {"gemma2", "final_logit_softcapping", "false",
         "'final_logit_softcapping': expected a finite number, found false"},
        {"gemma3", "layer_types", "[\\\"full_attention\\\", 3, 4]", "'layer_types': element 1: expected"},
        {"gemma3", "layer_types", "[\\\"full_attention\\\"]", "'layer_types' describes 1 layers, but the model has 3"},
        {"qwen2", "use_sliding_window", "[]", "'use_sliding_window': expected true or false, found a list"},
        {"llama", "hidden_size", "24, \\\"hidden_size\\\": 25",
         "'hidden_size': expected a whole number from 1 to 1048576, found two"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mw_status status = strstr(bad[i].message, "element 1") ? MW_ERR_UNSUPPORTED : MW_ERR_FORMAT;
        CHECK_SAYS(status, bad[i].message, open_with(bad[i].family, bad[i].key, bad[i].value));
    }
    CHECK_OK(open_with("llama", "unknown", "1e400, \\\"unknown\\\": NaN, \\\"id\\\": 99999999999999999999"));
    CHECK_OK(open_with("llama", "rope_scaling", "null"));
}

/* GPT-Neo's groups of layers, with counts that would overflow. */
static void attention_types(void) {
    static const char remove[] =
        "python3 -c 'import json; c = json.load(open(\"config.json\")); del c[\"attention_layers\"]; "
        "c[\"attention_types\"] = %s; json.dump(c, open(\"config.json\", \"w\"))'";
    static const struct {
        const char *types, *message;
    } cases[] = {
        {"[[[\"global\", \"local\"], 1]]", NULL},
        {"[[[\"global\"], 1], [[\"local\"], 1]]", NULL},
        {"None", "'attention_types' describes 24 layers, but the model has 2"},
        {"[[[\"global\", \"local\"], 2]]", "'attention_types' describes 4 layers, but the model has 2"},
        {"[[[\"global\", \"local\"], 9223372036854775807]]", "expected [[kinds of layers], repetitions up to 1024]"},
        {"[[[\"global\", \"local\"], -4611686018427387905]]", "found a list and -4611686018427387905"},
        {"[[[\"global\"], 1]]", "'attention_types' describes 1 layers, but the model has 2"},
        {"[[[], 7]]", "expected [[kinds of layers]"},
        {"[[[\"global\", \"near\"], 1]]", "element 1: expected \"global\" or \"local\", found the text 'near'"},
        {"[3]", "found none and nothing"},
        {"7", "'attention_types': expected a list, found 7"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char edit[512];
        snprintf(edit, sizeof edit, remove, cases[i].types);
        if (!cases[i].message) CHECK_OK(open_changed("gpt_neo", edit));
        if (cases[i].message)
            CHECK_SAYS(strstr(cases[i].message, "near") ? MW_ERR_UNSUPPORTED : MW_ERR_FORMAT, cases[i].message,
                       open_changed("gpt_neo", edit));
    }
}

/* Keys are read as the family's class in transformers 5.24 reads them; what it raises on is refused. */
static void keys_of_families(void) {
    static const struct {
        const char *family, *key, *value;
        mw_status status;
        const char *message;
    } cases[] = {
        {"llama", "quantization_config", "{\\\"quant_method\\\": \\\"gptq\\\"}", MW_ERR_UNSUPPORTED,
         "quantized by gptq"},
        {"gemma3", "use_bidirectional_attention", "true", MW_ERR_UNSUPPORTED, "'use_bidirectional_attention'"},
        {"gemma", "use_bidirectional_attention", "null", MW_OK, NULL},
        {"llama", "is_causal", "false", MW_ERR_UNSUPPORTED, "'is_causal'"},
        {"llama", "per_layer_config", "{\\\"0\\\": {}}", MW_ERR_UNSUPPORTED, "'per_layer_config' is not supported"},
        {"mistral", "num_key_value_heads", "null", MW_ERR_FORMAT, "'num_key_value_heads' is null"},
        {"llama", "tie_word_embeddings", "null", MW_ERR_FORMAT, "'tie_word_embeddings' is null"},
        {"gpt2", "hidden_size", "32", MW_ERR_FORMAT, "two names of one value differ: n_embd|hidden_size"},
        {"gpt2", "num_key_value_heads", "2", MW_OK, NULL},
        {"gpt2", "scale_attn_by_inverse_layer_idx", "true", MW_OK, NULL},
        {"qwen2", "layer_types", "[\\\"sliding_attention\\\", \\\"full_attention\\\"]", MW_ERR_FORMAT,
         "needs a window"},
        {"qwen2", "layer_types", "[\\\"chunked_attention\\\", \\\"full_attention\\\"]", MW_ERR_UNSUPPORTED,
         "element 0: expected"},
        {"llama", "layer_types", "[\\\"full_attention\\\"]", MW_ERR_FORMAT, "describes 1 layers"},
        {"llama", "layer_types", "[\\\"attention\\\", \\\"full_attention\\\"]", MW_OK, NULL},
        {"mistral", "layer_types", "[\\\"sliding_attention\\\", \\\"full_attention\\\"]", MW_OK, NULL},
        {"gemma2", "sliding_window", "null", MW_ERR_FORMAT, "needs a window"},
        {"gemma2", "attn_logit_softcapping", "0.0", MW_ERR_FORMAT, "expected a number greater than 0"},
        {"gemma3", "attn_logit_softcapping", "30.0", MW_ERR_UNSUPPORTED, "'attn_logit_softcapping' is not supported"},
        {"gemma3", "rope_scaling", "{\\\"type\\\": \\\"linear\\\", \\\"factor\\\": 8.0}", MW_ERR_UNSUPPORTED,
         "expected 'rope_type'"},
        {"llama", "rope_scaling", "{\\\"rope_type\\\": \\\"su\\\", \\\"factor\\\": 4.0}", MW_ERR_UNSUPPORTED,
         "'su' is not supported"},
        {"llama", "rope_scaling", "{\\\"rope_type\\\": \\\"linear\\\"}", MW_ERR_FORMAT, "have no 'factor'"},
        {"llama", "rope_parameters", "{\\\"full_attention\\\": {}}", MW_ERR_UNSUPPORTED,
         "by layer type are not supported"},
        {"llama", "rope_parameters",
         "{\\\"rope_type\\\": \\\"linear\\\", \\\"factor\\\": 2.0}, \\\"partial_rotary_factor\\\": 0.5", MW_ERR_FORMAT,
         "is not possible"},
        {"gpt_neox", "head_dim", "12", MW_ERR_UNSUPPORTED, "'head_dim' other than"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!cases[i].message) CHECK_OK(open_with(cases[i].family, cases[i].key, cases[i].value));
        if (cases[i].message)
            CHECK_SAYS(cases[i].status, cases[i].message, open_with(cases[i].family, cases[i].key, cases[i].value));
    }
}

/* Keys that the family does not have are listed. */
static void ignored_keys(void) {
    char folder[] = "/tmp/microw-ignored-XXXXXX", command[640];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command,
             "cp %s/models/llama/model.safetensors %s && sed 's/{/{\"logits_scaling\": 8, \"n_head\": 3,/' "
             "%s/models/llama/config.json | sed '2,$s/{\"logits_scaling\": 8, \"n_head\": 3,/{/' > %s/config.json",
             MICROW_GOLDEN, folder, MICROW_GOLDEN, folder);
    NEED(system(command) == 0);
    mw_model *m = NULL;
    NEED_OK(mw_model_open(folder, "f32", backend, &m));
    CHECK(strcmp(mw_model_about(m)->ignored_keys, "logits_scaling, n_head") == 0);
    mw_model_free(&m);
    m = open_family("llama", "f32");
    CHECK(mw_model_about(m)->ignored_keys[0] == '\0');
    mw_model_free(&m);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

/* Renames or removes a tensor: edits the header of a file in place, `from` and `to` of one length. */
static mw_status open_renamed(const char *family, const char *from, const char *to, const char *edit, mw_model **out) {
    char folder[] = "/tmp/microw-head-XXXXXX", command[960];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command,
             "cp %s/models/%s/*.json %s/models/%s/model.safetensors %s && cd %s && sed -i 's/\"%s\"/\"%s\"/' "
             "model.safetensors && sed -i '%s' config.json",
             MICROW_GOLDEN, family, MICROW_GOLDEN, family, folder, folder, from, to, edit);
    NEED(system(command) == 0);
    mw_status status = mw_model_open(folder, "f32", backend, out);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
    return status;
}

/* A model without a head has no logits; a stored head is kept though config.json ties it; a head stands in for a
 * missing tied embedding. */
static void heads(void) {
    mw_model *m = NULL;
    int64_t length = 5, vocab = 61;
    float untied[61], logits[61], x[24] = {1};
    mw_batch batch = {.n_seq = 1, .ids = ids, .length = &length};
    m = open_family("llama", "f32");
    NEED_OK(mw_model_forward(m, &batch, untied));
    mw_model_free(&m);
    static const char tie[] = "s/\"tie_word_embeddings\": false/\"tie_word_embeddings\": true/";
    NEED_OK(open_renamed("llama", "none", "none", tie, &m));
    NEED_OK(mw_model_forward(m, &batch, logits));
    CHECK(memcmp(logits, untied, sizeof logits) == 0);
    mw_model_free(&m);
    NEED_OK(open_renamed("llama", "lm_head.weight", "xx_head.weight", "", &m));
    CHECK(mw_model_site_width(m, (mw_site){0, MW_LOGITS}) == 0);
    CHECK_OK(mw_model_forward(m, &batch, NULL));
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "the model has no logits", mw_model_forward(m, &batch, logits));
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "the model has no logits", mw_model_unembed(m, x, 1, logits));
    mw_model_free(&m);
    CHECK_SAYS(MW_ERR_FORMAT, "weight 'model.embed_tokens.weight' is missing",
               open_renamed("llama", "model.embed_tokens.weight", "model.embed_xxxxxx.weight", "", &m));
    NEED_OK(open_renamed("llama", "model.embed_tokens.weight", "model.embed_xxxxxx.weight", tie, &m));
    NEED_OK(mw_model_forward(m, &batch, logits));
    CHECK(relative_error(logits, untied, vocab) > 1e-3); /* another embedding */
    mw_model_free(&m);
}

static mw_status open_quantized(const char *edit) {
    char command[512];
    snprintf(command, sizeof command,
             "python3 -c 'import json; c = json.load(open(\"config.json\")); q = c[\"quantization_config\"]; %s; "
             "json.dump(c, open(\"config.json\", \"w\"))'",
             edit);
    return open_changed("../fp8/qwen3", command);
}

/* Matrices of 8-bit floats need a scale for each block; other methods are refused by name. */
static void quantized_weights(void) {
    CHECK_OK(open_quantized("pass"));
    CHECK_SAYS(MW_ERR_FORMAT, "expected [8, 4] scales, found 2 dimensions, 8 elements",
               open_quantized("q[\"weight_block_size\"] = [4, 8]"));
    CHECK_SAYS(MW_ERR_FORMAT, "expected [1, 1] scales", open_quantized("del q[\"weight_block_size\"]"));
    CHECK_SAYS(MW_ERR_FORMAT, "expected [1, 1] scales", open_quantized("q[\"weight_block_size\"] = None"));
    CHECK_SAYS(MW_ERR_FORMAT, "'weight_block_size': expected two", open_quantized("q[\"weight_block_size\"] = [0, 8]"));
    CHECK_SAYS(MW_ERR_FORMAT, "'weight_block_size': expected two", open_quantized("q[\"weight_block_size\"] = [16]"));
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "quantized by fbgemm_fp8", open_quantized("q[\"quant_method\"] = \"fbgemm_fp8\""));
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "is stored as F8_E4M3", open_quantized("del c[\"quantization_config\"]"));
    CHECK_SAYS(MW_ERR_FORMAT, "q_proj.weight_scale_inv', the scale of a weight in f8_e4m3, is missing",
               open_changed("../fp8/qwen3", "sed -i 's/q_proj.weight_scale_inv/q_proj.weight_scale_odd/' "
                                            "model.safetensors"));
    CHECK_OK(open_with("llama", "quantization_config", "{\\\"quant_method\\\": \\\"fp8\\\"}")); /* no such weight */
}

/* Products of sizes do not overflow before they are refused. */
static void impossible_sizes(void) {
    mw_model *m = NULL;
    char path[] = "/tmp/microw-sizes-XXXXXX", command[512];
    NEED(mkdtemp(path) != NULL);
    snprintf(command, sizeof command,
             "echo '{\"model_type\": \"llama\", \"hidden_size\": 1048576, \"num_hidden_layers\": 1024, "
             "\"num_attention_heads\": 65536, \"head_dim\": 65536, \"intermediate_size\": 4194304, \"vocab_size\": "
             "268435456, \"max_position_embeddings\": 4294967296}' > %s/config.json",
             path);
    NEED(system(command) == 0);
    CHECK_SAYS(MW_ERR_FORMAT, "65536 heads of width 65536", mw_model_outline(path, &m));
    snprintf(command, sizeof command, "sed -i 's/\"head_dim\": 65536/\"head_dim\": 16/' %s/config.json", path);
    NEED(system(command) == 0);
    NEED_OK(mw_model_outline(path, &m));
    CHECK(mw_model_about(m)->parameters > INT64_C(1) << 50);
    mw_model_free(&m);
    snprintf(command, sizeof command, "rm -r %s", path);
    NEED(system(command) == 0);
}

/* Adds a tensor to a file: a longer header, and data after that of the others. */
static const char add_tensor[] =
    "python3 -c 'import json, struct; f = open(\"model.safetensors\", \"rb\").read(); "
    "n, = struct.unpack(\"<Q\", f[:8]); "
    "h = json.loads(f[8:8 + n]); d = f[8 + n:]; h[\"%s\"] = {\"dtype\": \"F32\", \"shape\": [1], "
    "\"data_offsets\": [len(d), len(d) + 4]}; h = json.dumps(h).encode(); "
    "open(\"model.safetensors\", \"wb\").write(struct.pack(\"<Q\", len(h)) + h + d + bytes(4))'";

/* A config.json with fewer layers than the file is refused: it would run as another model. Other tensors in the layers
 * are accepted. */
static void more_layers_than_configured(void) {
    static const struct {
        const char *family, *tensor;
        bool good;
    } cases[] = {{"gpt2", "%s.h.2.ln_1.weight", false},
                 {"gpt2", "%s.h.1.attn.bias", true},
                 {"gpt2", "%s.h.1.attn.masked_bias", true},
                 {"gpt2", "%s.h.x.odd", true},
                 {"gpt_neo", "%s.h.7.attn.attention.bias", false},
                 {"gpt_neox", "%s.layers.2.attention.dense.weight", false},
                 {"gpt_neox", "%s.layers.1.attention.rotary_emb.inv_freq", true},
                 {"llama", "%s.layers.2.input_layernorm.weight", false},
                 {"llama", "%s.layers.99999999999999999999.mlp.up_proj.weight", false},
                 {"llama", "%s.layers.0.self_attn.rotary_emb.inv_freq", true},
                 {"llama", "vision.layers.9.weight", true},
                 {"qwen3", "%s.layers.2.mlp.up_proj.weight", false},
                 {"gemma3", "%s.layers.3.mlp.up_proj.weight", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[96], command[640];
        const char *family = cases[i].family;
        bool gpt = strcmp(family, "gpt2") == 0 || strcmp(family, "gpt_neo") == 0;
        snprintf(name, sizeof name, cases[i].tensor,
                 gpt                          ? "transformer"
                 : strcmp(family, "gpt_neox") ? "model"
                                              : "gpt_neox");
        snprintf(command, sizeof command, add_tensor, name);
        if (cases[i].good) CHECK_OK(open_changed(family, command));
        if (!cases[i].good) CHECK_SAYS(MW_ERR_FORMAT, name, open_changed(family, command));
    }
    CHECK_SAYS(MW_ERR_FORMAT, "config.json has 1 layers, but the file has a weight", open_with("gpt2", "n_layer", "1"));
}

/* Weights that begin at an odd byte of the file give the same logits. */
static void weights_at_odd_bytes(void) {
    char folder[] = "/tmp/microw-odd-XXXXXX", command[960];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command,
             "cp %s/models/gpt2/*.json %s/models/gpt2/model.safetensors %s && cd %s && python3 -c 'import struct; "
             "f = open(\"model.safetensors\", \"rb\").read(); n, = struct.unpack(\"<Q\", f[:8]); n += (n + 1) %% 2; "
             "m, = struct.unpack(\"<Q\", f[:8]); "
             "d = f[8:8 + m] + b\" \" * (n - m) + f[8 + m:]; "
             "open(\"model.safetensors\", \"wb\").write(struct.pack(\"<Q\", n) + d)'",
             MICROW_GOLDEN, MICROW_GOLDEN, folder, folder);
    NEED(system(command) == 0);
    static const char *const dtypes[] = {"f32", "bf16", "f16"};
    for (int i = 0; i < 3; i++) {
        mw_model *even = open_family("gpt2", dtypes[i]), *odd = NULL;
        NEED_OK(mw_model_open(folder, dtypes[i], backend, &odd));
        int64_t vocab = mw_model_about(even)->vocab, length[2] = {7, 5};
        float *a = mw_alloc((size_t)(2 * vocab) * sizeof *a), *b = mw_alloc((size_t)(2 * vocab) * sizeof *b);
        mw_batch batch = {.n_seq = 2, .ids = ids, .length = length};
        NEED_OK(mw_model_forward(even, &batch, a));
        NEED_OK(mw_model_forward(odd, &batch, b));
        CHECK(memcmp(a, b, (size_t)(2 * vocab) * sizeof *a) == 0);
        mw_free(a);
        mw_free(b);
        mw_model_free(&even);
        mw_model_free(&odd);
    }
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
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

/* Hub ids are resolved in the layout of the Hugging Face cache. */
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

/* A real model of the shared data: the five largest logits after a prompt equal those computed by numpy. */
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

/* Argument "data": only the test that needs the real model. */
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
    RUN(impossible_sizes);
    RUN(hub_cache);
    RUN(ignored_keys);
    RUN(heads);
    if (system("command -v python3 >/dev/null 2>&1") == 0) {
        RUN(wrong_types);
        RUN(quantized_weights);
        RUN(stop_ids);
        RUN(attention_types);
        RUN(keys_of_families);
        RUN(more_layers_than_configured);
        RUN(weights_at_odd_bytes);
    } else {
        printf("skipped: python3 is not installed, which edits the files\n");
    }
    mw_backend_close(&backend);
    return test_end();
}
