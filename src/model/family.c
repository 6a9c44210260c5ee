#include "model/family.h"

#include <string.h>

/* The Llama naming, which many families share. */
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
    {.type = "gpt2",
     .names = {GPT_NAMES, .qkv = "h.%d.attn.c_attn", .o = "h.%d.attn.c_proj"},
     .conv1d = true,
     .tied = true,
     .qkv_bias = BIAS_ALWAYS,
     .o_bias = BIAS_ALWAYS,
     .mlp_bias = BIAS_ALWAYS,
     .activation = "gelu_new",
     .eps = 1e-5},
    {.type = "gpt_neo",
     .names = {GPT_NAMES, .q = "h.%d.attn.attention.q_proj", .k = "h.%d.attn.attention.k_proj",
               .v = "h.%d.attn.attention.v_proj", .o = "h.%d.attn.attention.out_proj"},
     .tied = true,
     .unscaled_attention = true,
     .o_bias = BIAS_ALWAYS,
     .mlp_bias = BIAS_ALWAYS,
     .window = WINDOW_ATTENTION_LAYERS,
     .activation = "gelu_new",
     .eps = 1e-5},
    {.type = "gpt_neox",
     .names = {.embed = "embed_in",
               .final_norm = "final_layer_norm",
               .head = "embed_out",
               .norm1 = "layers.%d.input_layernorm",
               .qkv = "layers.%d.attention.query_key_value",
               .o = "layers.%d.attention.dense",
               NORM2,
               .up = "layers.%d.mlp.dense_h_to_4h",
               .down = "layers.%d.mlp.dense_4h_to_h"},
     .rotary = true,
     .qkv_bias = BIAS_CONFIG,
     .o_bias = BIAS_CONFIG,
     .mlp_bias = BIAS_ALWAYS,
     .activation = "gelu",
     .parallel_default = true,
     .rotary_fraction = 0.25,
     .eps = 1e-5},
    {.type = "llama",
     .names = {LLAMA_NAMES, NORM2},
     .rms_norm = true,
     .rotary = true,
     .qkv_bias = BIAS_CONFIG,
     .o_bias = BIAS_CONFIG,
     .mlp_bias = BIAS_CONFIG,
     .activation = "silu",
     .rotary_fraction = 1,
     .eps = 1e-6},
    {.type = "mistral",
     .names = {LLAMA_NAMES, NORM2},
     .rms_norm = true,
     .rotary = true,
     .window = WINDOW_ALL,
     .kv_heads = 8,
     .activation = "silu",
     .rotary_fraction = 1,
     .eps = 1e-6},
    {.type = "qwen2",
     .names = {LLAMA_NAMES, NORM2},
     .rms_norm = true,
     .rotary = true,
     .qkv_bias = BIAS_ALWAYS,
     .window = WINDOW_FROM_MAX,
     .activation = "silu",
     .rotary_fraction = 1,
     .eps = 1e-6},
    {.type = "qwen3",
     .names = {LLAMA_NAMES, NORM2, HEAD_NORMS},
     .rms_norm = true,
     .rotary = true,
     .qkv_bias = BIAS_CONFIG,
     .o_bias = BIAS_CONFIG,
     .window = WINDOW_FROM_MAX,
     .head_dim = 128,
     .activation = "silu",
     .rotary_fraction = 1,
     .eps = 1e-6},
    {.type = "gemma2",
     .names = {LLAMA_NAMES, SANDWICH_NORMS},
     .rms_norm = true,
     .norm_plus_one = true,
     .rotary = true,
     .scaled_embedding = true,
     .tied = true,
     .qkv_bias = BIAS_CONFIG,
     .o_bias = BIAS_CONFIG,
     .window = WINDOW_EVEN,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 256,
     .activation = "gelu_pytorch_tanh",
     .rotary_fraction = 1,
     .eps = 1e-6},
    {.type = "gemma3_text",
     .names = {LLAMA_NAMES, SANDWICH_NORMS, HEAD_NORMS},
     .rms_norm = true,
     .norm_plus_one = true,
     .rotary = true,
     .scaled_embedding = true,
     .tied = true,
     .qkv_bias = BIAS_CONFIG,
     .o_bias = BIAS_CONFIG,
     .window = WINDOW_PATTERN,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 256,
     .activation = "gelu_pytorch_tanh",
     .rotary_fraction = 1,
     .eps = 1e-6},
};

const mw_family *mw_family_find(const char *model_type) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].type, model_type) == 0) return &families[i];
    return NULL;
}

void mw_family_list(mw_text *out) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        mw_text_addf(out, "%s%s", i ? ", " : "", families[i].type);
}
