/* The table of model families.
 *
 * To add a family:
 * 1. Add a row here; family.h explains each member. Members that are left out are zero.
 * 2. Add a small random model in tools/make_golden_models.py, run it for tests/golden/models, and add the folder's name
 *    to `families` in tests/unit/test_model_golden.c: activations at all sites must match those of transformers.
 * 3. Add the model_type to the list in include/microw/model.h.
 * Code changes only for a feature that no family has yet: activations, rotary scalings and window rules are read in
 * architecture.c; tensor prefixes and layouts are bound in weights.c; forward.c computes the pass. */
#include "model/family.h"

#include <string.h>

/* Names of tensors that several families share. */
#define LLAMA_NAMES                                                                                                    \
    .embed = "embed_tokens", .final_norm = "norm", .head = "lm_head", .norm1 = "layers.%d.input_layernorm",            \
    .q = "layers.%d.self_attn.q_proj", .k = "layers.%d.self_attn.k_proj", .v = "layers.%d.self_attn.v_proj",           \
    .o = "layers.%d.self_attn.o_proj", .gate = "layers.%d.mlp.gate_proj", .up = "layers.%d.mlp.up_proj",               \
    .down = "layers.%d.mlp.down_proj"
#define HEAD_NORMS .q_norm = "layers.%d.self_attn.q_norm", .k_norm = "layers.%d.self_attn.k_norm"
#define SANDWICH_NORMS                                                                                                 \
    .post_attn_norm = "layers.%d.post_attention_layernorm", .norm2 = "layers.%d.pre_feedforward_layernorm",            \
    .post_mlp_norm = "layers.%d.post_feedforward_layernorm"
#define NORM2 .norm2 = "layers.%d.post_attention_layernorm"
#define GPT_NAMES                                                                                                      \
    .embed = "wte", .position = "wpe", .final_norm = "ln_f", .head = "lm_head", .norm1 = "h.%d.ln_1",                  \
    .norm2 = "h.%d.ln_2", .up = "h.%d.mlp.c_fc", .down = "h.%d.mlp.c_proj"

static const mw_family families[] = {
    {.model_type = "gpt2",
     .names = {GPT_NAMES, .qkv = "h.%d.attn.c_attn", .o = "h.%d.attn.c_proj"},
     .norm = NORM_LAYER,
     .eps = 1e-5,
     .tied = true,
     .conv1d = true,
     .attention = {.qkv = QKV_COLUMNS, .qkv_bias = BIAS_ALWAYS, .o_bias = BIAS_ALWAYS},
     .mlp = {.activation = "gelu_new", .bias = BIAS_ALWAYS, .expansion = 4}},
    {.model_type = "gpt_neo",
     .names = {GPT_NAMES, .q = "h.%d.attn.attention.q_proj", .k = "h.%d.attn.attention.k_proj",
               .v = "h.%d.attn.attention.v_proj", .o = "h.%d.attn.attention.out_proj"},
     .norm = NORM_LAYER,
     .eps = 1e-5,
     .tied = true,
     .attention = {.o_bias = BIAS_ALWAYS, .scale = SCALE_ONE, .window = WINDOW_ATTENTION_LAYERS, .window_default = 256},
     .mlp = {.activation = "gelu_new", .bias = BIAS_ALWAYS, .expansion = 4}},
    {.model_type = "gpt_neox",
     .names = {.embed = "embed_in",
               .final_norm = "final_layer_norm",
               .head = "embed_out",
               .norm1 = "layers.%d.input_layernorm",
               .qkv = "layers.%d.attention.query_key_value",
               .o = "layers.%d.attention.dense",
               NORM2,
               .up = "layers.%d.mlp.dense_h_to_4h",
               .down = "layers.%d.mlp.dense_4h_to_h"},
     .norm = NORM_LAYER,
     .eps = 1e-5,
     .rotary_fraction = 0.25,
     .parallel_residual = true,
     .attention = {.qkv = QKV_PER_HEAD, .qkv_bias = BIAS_CONFIG, .o_bias = BIAS_CONFIG, .bias_default = true},
     .mlp = {.activation = "gelu", .bias = BIAS_ALWAYS}},
    {.model_type = "llama",
     .names = {LLAMA_NAMES, NORM2},
     .norm = NORM_RMS,
     .eps = 1e-6,
     .rotary_fraction = 1,
     .attention = {.qkv_bias = BIAS_CONFIG, .o_bias = BIAS_CONFIG},
     .mlp = {.activation = "silu", .bias = BIAS_CONFIG}},
    {.model_type = "mistral",
     .names = {LLAMA_NAMES, NORM2},
     .norm = NORM_RMS,
     .eps = 1e-6,
     .rotary_fraction = 1,
     .attention = {.kv_heads = 8, .window = WINDOW_ALL},
     .mlp = {.activation = "silu"}},
    {.model_type = "qwen2",
     .names = {LLAMA_NAMES, NORM2},
     .norm = NORM_RMS,
     .eps = 1e-6,
     .rotary_fraction = 1,
     .attention = {.qkv_bias = BIAS_ALWAYS, .window = WINDOW_FROM_MAX},
     .mlp = {.activation = "silu"}},
    {.model_type = "qwen3",
     .names = {LLAMA_NAMES, NORM2, HEAD_NORMS},
     .norm = NORM_RMS,
     .eps = 1e-6,
     .rotary_fraction = 1,
     .attention = {.qkv_bias = BIAS_CONFIG, .o_bias = BIAS_CONFIG, .head_dim = 128, .window = WINDOW_FROM_MAX},
     .mlp = {.activation = "silu"}},
    {.model_type = "gemma",
     .names = {LLAMA_NAMES, NORM2},
     .norm = NORM_RMS_PLUS_ONE,
     .eps = 1e-6,
     .rotary_fraction = 1,
     .scaled_embedding = true,
     .tied = true,
     .attention = {.qkv_bias = BIAS_CONFIG, .o_bias = BIAS_CONFIG, .heads = 16, .kv_heads = 16, .head_dim = 256},
     .mlp = {.activation = "gelu_pytorch_tanh", .gelu_is_tanh = true}},
    {.model_type = "gemma2",
     .names = {LLAMA_NAMES, SANDWICH_NORMS},
     .norm = NORM_RMS_PLUS_ONE,
     .eps = 1e-6,
     .rotary_fraction = 1,
     .scaled_embedding = true,
     .tied = true,
     .attention = {.qkv_bias = BIAS_CONFIG,
                   .o_bias = BIAS_CONFIG,
                   .heads = 8,
                   .kv_heads = 4,
                   .head_dim = 256,
                   .scale = SCALE_QUERY_SCALAR,
                   .window = WINDOW_EVEN,
                   .window_default = 4096},
     .mlp = {.activation = "gelu_pytorch_tanh"}},
    {.model_type = "gemma3_text",
     .wrapper_type = "gemma3",
     .names = {LLAMA_NAMES, SANDWICH_NORMS, HEAD_NORMS},
     .norm = NORM_RMS_PLUS_ONE,
     .eps = 1e-6,
     .rotary_fraction = 1,
     .local_rope_theta = 10000,
     .scaled_embedding = true,
     .tied = true,
     .attention = {.qkv_bias = BIAS_CONFIG,
                   .o_bias = BIAS_CONFIG,
                   .heads = 8,
                   .kv_heads = 4,
                   .head_dim = 256,
                   .scale = SCALE_QUERY_SCALAR,
                   .window = WINDOW_PATTERN,
                   .window_default = 4096},
     .mlp = {.activation = "gelu_pytorch_tanh"}},
};
enum { FAMILIES = sizeof families / sizeof *families };

const mw_family *mw_family_find(const char *model_type, bool *wrapped) {
    for (int i = 0; i < FAMILIES; i++) {
        const mw_family *f = &families[i];
        *wrapped = f->wrapper_type && strcmp(f->wrapper_type, model_type) == 0;
        if (*wrapped || strcmp(f->model_type, model_type) == 0) return f;
    }
    return NULL;
}

void mw_family_list(mw_text *out) {
    for (int i = 0; i < FAMILIES; i++) {
        mw_text_addf(out, "%s%s", i ? ", " : "", families[i].model_type);
        if (families[i].wrapper_type) mw_text_addf(out, ", %s", families[i].wrapper_type);
    }
}
