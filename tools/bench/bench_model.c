/* Writes a folder with a model of a known shape and random weights in bf16, for benches on machines without real
 * models.
 *     bench_model gpt2|llama-1b FOLDER
 * The shapes are those of GPT-2 small and Llama 3.2 1B. Every call writes the same bytes. */
#include "bench.h"
#include "microw/safetensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TENSORS_MAX = 256, NAME = 96 };

typedef struct model {
    mw_named_tensor tensor[TENSORS_MAX];
    char name[TENSORS_MAX][NAME];
    int count;
} model;

/* Uniform numbers of this standard deviation: the speed of a product does not depend on their distribution. */
static void fill(uint16_t *out, int64_t count, uint64_t stream, float deviation) {
    enum { RUN = 4096 };
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += RUN) {
        float x[RUN];
        int64_t n = count - at < RUN ? count - at : RUN;
        for (int64_t i = 0; i < n; i++)
            x[i] = (mw_rng_uniform(0, stream, (uint64_t)(at + i)) - 0.5f) * 3.4641f * deviation;
        must(mw_convert_from_f32(MW_BF16, x, n, out + at));
    }
}

static void fill_ones(uint16_t *out, int64_t count) {
    const float one = 1;
    for (int64_t i = 0; i < count; i++) must(mw_convert_from_f32(MW_BF16, &one, 1, out + i));
}

/* Adds a tensor of random numbers; `columns` 0: a vector. Deviation 0: ones for the weight of a norm (by its name),
 * else zeros. */
__attribute__((format(printf, 5, 6))) static void add(model *m, int64_t rows, int64_t columns, float deviation,
                                                      const char *name, ...) {
    if (m->count == TENSORS_MAX) exit(1);
    va_list arguments;
    va_start(arguments, name);
    vsnprintf(m->name[m->count], NAME, name, arguments);
    va_end(arguments);
    int64_t count = rows * (columns ? columns : 1);
    uint16_t *data = some((size_t)count, sizeof *data);
    if (deviation > 0)
        fill(data, count, (uint64_t)m->count, deviation);
    else if (strstr(m->name[m->count], "ln_") || strstr(m->name[m->count], "norm"))
        fill_ones(data, strstr(m->name[m->count], ".bias") ? 0 : count);
    m->tensor[m->count] = (mw_named_tensor){
        m->name[m->count], {.dtype = MW_BF16, .ndim = columns ? 2 : 1, .shape = {rows, columns}, .data = data}};
    m->count++;
}

static const char *make_gpt2(model *m) {
    enum { D = 768, LAYERS = 12, VOCAB = 50257, PLACES = 1024 };
    const float s = 0.02f;
    add(m, VOCAB, D, s, "transformer.wte.weight");
    add(m, PLACES, D, s, "transformer.wpe.weight");
    for (int i = 0; i < LAYERS; i++) {
        static const struct {
            const char *name;
            int rows, columns;
        } parts[] = {
            {"attn.c_attn", D, 3 * D}, {"attn.c_proj", D, D}, {"mlp.c_fc", D, 4 * D}, {"mlp.c_proj", 4 * D, D}};
        for (int p = 0; p < 4; p++) {
            add(m, parts[p].rows, parts[p].columns, s, "transformer.h.%d.%s.weight", i, parts[p].name);
            add(m, parts[p].columns, 0, 0, "transformer.h.%d.%s.bias", i, parts[p].name);
        }
        for (int n = 1; n <= 2; n++) {
            add(m, D, 0, 0, "transformer.h.%d.ln_%d.weight", i, n);
            add(m, D, 0, 0, "transformer.h.%d.ln_%d.bias", i, n);
        }
    }
    add(m, D, 0, 0, "transformer.ln_f.weight");
    add(m, D, 0, 0, "transformer.ln_f.bias");
    return "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"n_embd\":768,\"n_layer\":12,"
           "\"n_head\":12,\"n_positions\":1024,\"vocab_size\":50257,\"activation_function\":\"gelu_new\","
           "\"layer_norm_epsilon\":1e-05,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}\n";
}

static const char *make_llama(model *m) {
    enum { D = 2048, LAYERS = 16, HEAD = 64, HEADS = 32, KV_HEADS = 8, INNER = 8192, VOCAB = 128256 };
    const float s = 0.02f;
    add(m, VOCAB, D, s, "model.embed_tokens.weight");
    for (int i = 0; i < LAYERS; i++) {
        static const struct {
            const char *name;
            int rows, columns;
        } parts[] = {{"self_attn.q_proj", HEADS * HEAD, D},
                     {"self_attn.k_proj", KV_HEADS * HEAD, D},
                     {"self_attn.v_proj", KV_HEADS * HEAD, D},
                     {"self_attn.o_proj", D, HEADS * HEAD},
                     {"mlp.gate_proj", INNER, D},
                     {"mlp.up_proj", INNER, D},
                     {"mlp.down_proj", D, INNER}};
        for (int p = 0; p < 7; p++)
            add(m, parts[p].rows, parts[p].columns, s, "model.layers.%d.%s.weight", i, parts[p].name);
        add(m, D, 0, 0, "model.layers.%d.input_layernorm.weight", i);
        add(m, D, 0, 0, "model.layers.%d.post_attention_layernorm.weight", i);
    }
    add(m, D, 0, 0, "model.norm.weight");
    return "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":2048,"
           "\"num_hidden_layers\":16,\"num_attention_heads\":32,\"num_key_value_heads\":8,\"head_dim\":64,"
           "\"intermediate_size\":8192,\"vocab_size\":128256,\"max_position_embeddings\":131072,"
           "\"rms_norm_eps\":1e-05,\"rope_theta\":500000.0,\"hidden_act\":\"silu\","
           "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}\n";
}

static void write_text(const char *path, const char *text) {
    mw_atomic_file file;
    must(mw_atomic_begin(path, &file));
    must(mw_atomic_write(&file, text, strlen(text)));
    must(mw_atomic_commit(&file));
}

int main(int argc, char **argv) {
    bool llama = argc == 3 && strcmp(argv[1], "llama-1b") == 0;
    if (argc != 3 || (!llama && strcmp(argv[1], "gpt2") != 0)) {
        fprintf(stderr, "bench_model gpt2|llama-1b FOLDER\n");
        return 2;
    }
    model *m = some(1, sizeof *m);
    const char *config = llama ? make_llama(m) : make_gpt2(m);
    char *weights = mw_format("%s/model.safetensors", argv[2]), *about = mw_format("%s/config.json", argv[2]);
    if (!weights || !about) return 1;
    static const char *const metadata[] = {"format", "pt", NULL};
    must(mw_make_directories(argv[2]));
    must(mw_safetensors_write(weights, m->tensor, m->count, metadata));
    write_text(about, config);
    for (int i = 0; i < m->count; i++) mw_free(m->tensor[i].tensor.data);
    mw_free(weights);
    mw_free(about);
    mw_free(m);
    return 0;
}
