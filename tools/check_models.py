"""Compares microw with transformers 5.24 on random models: every family and option, old and new spelling of keys.

    MICROW=build/microw python tools/check_models.py --seeds 0-499 [--torch] [--fp8] [--keep FOLDER] [--show]

Each seed makes a folder: a config.json that is written by hand, not by transformers, and random weights in a random
layout (shards, prefixes, unneeded tensors, 16-bit types; with --torch in files of torch.save, with --fp8 in 8-bit
floats). transformers computes every site and the logits in f32, and microw harvests them. One line per seed that does
not agree, then the counts:

    agree     all sites within 1e-4 of the largest value
    refused   microw refuses; "alone": transformers runs the model
    LOOSE     transformers raises an error, microw runs the model
    SILENT    both run, with different numbers

Exit code 1 if any seed is SILENT or LOOSE. Needs torch, transformers, h5py and pyyaml.
"""
import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
warnings.filterwarnings("ignore")

import h5py
import numpy as np
import torch
import transformers as tf
import yaml
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_golden_models import Tape, watch

MICROW = os.path.abspath(os.environ.get("MICROW", "build/microw"))
TOLERANCE = 1e-4
FAMILIES = ["gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma2",
            "gemma3_text", "gemma3", "starcoder2", "seed_oss", "cwm", "internlm3", "arcee", "nemotron", "jais2", "olmo",
            "olmo2", "olmo3", "exaone4", "phi", "phi3", "persimmon", "stablelm", "granite", "smollm3", "cohere",
            "cohere2", "glm", "glm4", "helium", "ernie4_5", "hunyuan_v1_dense", "nanochat", "vaultgemma", "gpt_bigcode",
            "gptj", "codegen", "opt", "bloom", "falcon", "mpt", "xglm", "apertus",
            "exaone", "iquestcoder", "ministral3", "hyperclovax"]
GPT_LIKE = ["gpt2", "gpt_bigcode", "gptj", "codegen"]  # sizes have the names n_embd, n_layer, n_head
WITHOUT_ROPE = ["gpt2", "gpt_neo", "gpt_bigcode", "opt", "gptj", "codegen", "bloom", "mpt", "xglm"]
BY_LAYER = ["gemma3_text", "gemma3", "olmo3"]
WITH_SHARE = ["phi", "phi3", "persimmon", "stablelm", "nemotron", "glm", "glm4"]
ACTIVATIONS = ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "swish", "relu", "relu2"]
EPS = {"starcoder2": "norm_epsilon", "nemotron": "norm_eps", "gpt_neox": "layer_norm_eps", "jais2": "layer_norm_eps",
       "phi": "layer_norm_eps", "persimmon": "layer_norm_eps", "stablelm": "layer_norm_eps",
       "cohere": "layer_norm_eps", "cohere2": "layer_norm_eps", "gpt2": "layer_norm_epsilon",
       "gpt_neo": "layer_norm_epsilon", "gpt_bigcode": "layer_norm_epsilon", "gptj": "layer_norm_epsilon",
       "codegen": "layer_norm_epsilon", "bloom": "layer_norm_epsilon", "falcon": "layer_norm_epsilon",
       "mpt": "layer_norm_epsilon"}
# Flags of the families' classes.
FLAGS = {"llama": ["attention_bias", "mlp_bias"], "starcoder2": ["use_bias"],
         "seed_oss": ["attention_bias", "attention_out_bias", "mlp_bias"], "cwm": ["mlp_bias"],
         "internlm3": ["attention_bias", "mlp_bias", "qkv_bias", "bias"], "arcee": ["attention_bias", "mlp_bias"],
         "nemotron": ["attention_bias", "mlp_bias"], "jais2": ["attention_bias", "mlp_bias"],
         "phi": ["qk_layernorm"], "persimmon": ["qk_layernorm"],
         "stablelm": ["use_qkv_bias", "qk_layernorm", "use_parallel_residual"],
         "gpt_neox": ["attention_bias", "use_parallel_residual"], "cohere": ["attention_bias", "use_qk_norm"],
         "glm": ["attention_bias"], "glm4": ["attention_bias"], "helium": ["attention_bias", "mlp_bias"],
         "ernie4_5": ["use_bias"], "granite": ["attention_bias", "mlp_bias"],
         "smollm3": ["attention_bias", "mlp_bias", "use_sliding_window"], "gpt_bigcode": ["multi_query"],
         "opt": ["enable_bias"], "exaone": ["attention_bias", "mlp_bias"], "iquestcoder": ["attention_bias", "mlp_bias"],
         "hyperclovax": ["attention_bias", "mlp_bias", "use_post_norm"], "xglm": ["scale_embedding"],
         "falcon": ["bias", "multi_query", "parallel_attn", "alibi", "new_decoder_architecture"]}
FLAGS.update({f: ["attention_bias"] for f in ("qwen3", "gemma", "gemma2", "gemma3", "gemma3_text", "olmo", "olmo2",
                                              "olmo3", "cohere2", "hunyuan_v1_dense", "nanochat", "vaultgemma", "apertus")})
WINDOWED = ["mistral", "ministral", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3_text", "starcoder2", "cwm", "olmo3",
            "exaone4", "phi3", "smollm3", "cohere2", "vaultgemma", "ministral3"]


def layer_types(r, n):
    n = max(0, n + r.choice([0] * 20 + [1, -1]))
    names = ["full_attention", "sliding_attention"] * 24 + ["attention", "chunked_attention"]
    return [r.choice(names) for _ in range(n)]


def rope_table(r, allowed, pairs):
    kind = r.choice(allowed)
    table = {r.choice(["rope_type"] * 4 + ["type"]): kind}
    if kind in ("linear", "dynamic", "yarn") or (kind == "proportional" and r.random() < 0.4):
        table["factor"] = r.choice([2, 4.0, 8.0, 1.5])
    if kind == "yarn":
        extra = {"attention_factor": 1.3, "beta_fast": r.choice([4, 32, None]), "beta_slow": r.choice([0.5, 1]),
                 "mscale": r.choice([1.0, 0.7]), "mscale_all_dim": 0.5, "truncate": False, "factor": None,
                 "original_max_position_embeddings": r.choice([8, 16, 32])}
        table.update({k: v for k, v in extra.items() if r.random() < (0.03 if k == "factor" else 0.3)})
    if kind in ("longrope", "su"):
        n = r.choice([pairs] * 12 + [pairs + 1, 1])
        table.update(short_factor=[r.choice([1.0, 1, 1.25, 2.5]) for _ in range(n)],
                     long_factor=[r.choice([2.0, 5, 9.5]) for _ in range(n)])
        extra = {"factor": 4.0, "attention_factor": 1.2, "original_max_position_embeddings": r.choice([8, 16, 32])}
        table.update({k: v for k, v in extra.items() if r.random() < (0.7 if k[0] == "o" else 0.3)})
    if r.random() < 0.15:
        table["llama_4_scaling_beta"] = r.choice([0.1, 0.5])
    if kind == "dynamic" and r.random() < 0.3:
        table["alpha"] = r.choice([50.0, 1000])
    if kind == "llama3":
        table.update(factor=r.choice([4.0, 8.0]), low_freq_factor=1.0, high_freq_factor=r.choice([2.0, 4.0]))
        if r.random() < 0.7:
            table["original_max_position_embeddings"] = r.choice([8, 16, 32])
    if r.random() < 0.4:
        table["rope_theta"] = r.choice([100.0, 10000, 500000.0])
    if r.random() < 0.1:
        table["partial_rotary_factor"] = r.choice([0.25, 0.5, 1.0, 0.34])
    if r.random() < 0.03 and len(table) > 1:
        table.pop(r.choice(list(table)))
    return table


KINDS = ["default"] * 3 + ["linear"] * 3 + ["llama3"] * 3 + ["yarn"] * 3 + ["dynamic", "longrope", "proportional"]
PHI3_KINDS = ["default"] * 3 + ["longrope"] * 3 + ["su", "yarn", "linear"]


def rope_options(r, family, c):
    """Adds rotary parameters in one or several of the spellings that are in use."""
    if family in WITHOUT_ROPE:
        return
    kinds = PHI3_KINDS if family == "phi3" else KINDS
    width = c.get("head_dim") or c.get("hidden_size", 8) // max(1, c.get("num_attention_heads", 1))
    if family in WITH_SHARE:
        c["partial_rotary_factor"] = share = r.choice([0.25, 0.5, 0.5, 1.0, 0.75])
        width = int(width * share)
    pairs = width // 2
    if r.random() < 0.4:
        c["rotary_emb_base" if family == "gpt_neox" else "rope_theta"] = r.choice([100, 1000.0, 500000.0])
    if family == "gpt_neox" and r.random() < 0.6:
        c["rotary_pct"] = r.choice([0.25, 0.5, 1.0, 0.34, 0.9, 0.13, 0.0])
    if r.random() < 0.35:
        c["rope_scaling"] = r.choice([None, {}] + [rope_table(r, kinds, pairs) for _ in range(6)])
    if r.random() < 0.45:
        nested = {"full_attention": rope_table(r, kinds, pairs),
                  "sliding_attention": rope_table(r, kinds[:8], pairs)}
        if r.random() < 0.3:
            nested.pop(r.choice(list(nested)))
        flat = rope_table(r, kinds, pairs)
        by_layer = family in BY_LAYER
        c["rope_parameters"] = nested if r.random() < (0.75 if by_layer else 0.04) else flat
    if family in ("gemma3_text", "gemma3") and r.random() < 0.3:
        c["rope_local_base_freq"] = r.choice([100.0, 5000])
    for table in (c.get("rope_scaling"), c.get("rope_parameters")):
        if family == "ministral3" and table and r.random() < 0.9:
            table["llama_4_scaling_beta"] = r.choice([0.1, 0.5])
    if r.random() < 0.06:
        c["original_max_position_embeddings"] = r.choice([8, 16, 32])


TOKENIZER = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None,
             "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
             "model": {"type": "BPE", "vocab": {chr(97 + i): i for i in range(26)}, "merges": []}}

# Keys of some family, with plausible values, which any config.json may have.
FOREIGN = {
    "sliding_window": lambda r: r.choice([3, 5, None]), "num_key_value_heads": lambda r: r.choice([1, 2]),
    "head_dim": lambda r: r.choice([4, 8]), "rope_theta": lambda r: 500.0, "rotary_emb_base": lambda r: 700,
    "partial_rotary_factor": lambda r: r.choice([0.5, 0.25]), "rotary_pct": lambda r: 0.5,
    "query_pre_attn_scalar": lambda r: 12, "attn_logit_softcapping": lambda r: 2.0,
    "final_logit_softcapping": lambda r: 3.0, "attention_bias": lambda r: True, "mlp_bias": lambda r: True,
    "use_parallel_residual": lambda r: r.random() < 0.5, "hidden_act": lambda r: r.choice(ACTIVATIONS),
    "hidden_activation": lambda r: r.choice(ACTIVATIONS), "activation_function": lambda r: r.choice(ACTIVATIONS),
    "rms_norm_eps": lambda r: 0.01, "layer_norm_eps": lambda r: 0.01, "layer_norm_epsilon": lambda r: 0.01,
    "sliding_window_pattern": lambda r: r.choice([1, 2, 3]), "_sliding_window_pattern": lambda r: 2,
    "use_sliding_window": lambda r: True, "max_window_layers": lambda r: r.choice([0, 1]),
    "rope_local_base_freq": lambda r: 100.0, "n_inner": lambda r: 20, "intermediate_size": lambda r: 28,
    "window_size": lambda r: 3, "scale_attn_weights": lambda r: False, "logits_scaling": lambda r: 8.0,
    "scale_attn_by_inverse_layer_idx": lambda r: True, "embedding_multiplier": lambda r: 12.0,
    "original_max_position_embeddings": lambda r: 16, "is_causal": lambda r: r.random() < 0.5,
    "use_bidirectional_attention": lambda r: r.choice([True, False, None]), "attention_chunk_size": lambda r: 4,
    "pruned_heads": lambda r: {}, "is_decoder": lambda r: True, "reorder_and_upcast_attn": lambda r: True,
    "add_cross_attention": lambda r: False, "num_hidden_layers": lambda r: 2, "n_layer": lambda r: 2,
    "hidden_size": lambda r: 24, "n_embd": lambda r: 24, "max_position_embeddings": lambda r: 64,
    "pretraining_tp": lambda r: 2, "layer_types": lambda r: layer_types(r, 2), "no_rope_layers": lambda r: [0, 1],
    "attention_layers": lambda r: ["local", "global"], "n_ctx": lambda r: 64, "qk_norm": lambda r: True,
    "parallel_attn": lambda r: True, "alibi": lambda r: True, "n_embed": lambda r: 24, "use_bias": lambda r: r.random() < 0.5,
    "logit_scale": lambda r: 0.5, "residual_multiplier": lambda r: 0.3, "attention_multiplier": lambda r: 0.2,
    "use_qk_norm": lambda r: True, "qk_layernorm": lambda r: True, "multi_query": lambda r: r.random() < 0.5,
    "rotary_dim": lambda r: 2, "no_rope_layer_interval": lambda r: 2, "enable_bias": lambda r: False,
    "do_layer_norm_before": lambda r: r.random() < 0.5, "clip_qkv": lambda r: r.choice([None, 0.5]),
    "word_embed_proj_dim": lambda r: r.choice([None, 8]), "use_qkv_bias": lambda r: True, "ffn_dim": lambda r: 20,
    "attention_out_bias": lambda r: True, "norm_eps": lambda r: 0.01, "norm_epsilon": lambda r: 0.01,
    "_remove_final_layer_norm": lambda r: r.random() < 0.5, "layer_norm_elementwise_affine": lambda r: True,
}


def sizes(r, family):
    heads = r.choice([1, 2, 3, 4, 6, 8])
    width = r.choice([2, 4, 6, 8]) if r.random() < 0.95 else r.choice([1, 3])
    d, layers = heads * width, r.choice([1, 2, 2, 3])
    if family in GPT_LIKE:
        return dict(n_embd=d, n_layer=layers, n_head=heads, vocab_size=61, n_positions=64), layers
    if family == "mpt":
        return dict(d_model=d, n_layers=layers, n_heads=heads, vocab_size=61, max_seq_len=64), layers
    if family == "bloom":
        return {r.choice(["n_embed", "hidden_size"]): d, "n_layer": layers, "n_head": heads, "vocab_size": 61}, layers
    if family == "xglm":
        return dict(d_model=max(d, 4), num_layers=layers, attention_heads=heads if d >= 4 else 1, vocab_size=61,
                    ffn_dim=r.choice([16, 28]), max_position_embeddings=64), layers
    c = dict(hidden_size=d, vocab_size=61, max_position_embeddings=64)
    if family == "gpt_neo":
        c.update(num_layers=layers, num_heads=heads)
        return c, layers
    c.update(num_hidden_layers=layers, num_attention_heads=heads)
    mlp = {"opt": "ffn_dim", "falcon": "ffn_hidden_size"}.get(family, "intermediate_size")
    c[mlp] = r.choice([16, 28, 40] + ([None] if family == "falcon" else []))
    if family in ("gpt_neox", "persimmon", "opt", "falcon"):
        return c, layers
    if r.random() < (0.7 if family in ("llama", "qwen2", "qwen3") else 0.95):
        c["num_key_value_heads"] = r.choice([k for k in (1, 2, 3, 4, 6, 8) if heads % k == 0 or r.random() < 0.02])
    if family == "helium":
        c["head_dim"] = width
    elif family == "ministral" or r.random() < (0.5 if "head_dim" in tf.CONFIG_MAPPING[family]().to_dict() else 0.1):
        c["head_dim"] = r.choice([2, 4, 8, 8, 8, 16] if r.random() < 0.95 else [3, 5])
    return c, layers


def family_options(r, family, c, layers):
    some = lambda p=0.35: r.random() < p
    act = ("activation_function" if family in GPT_LIKE + ["gpt_neo", "opt", "xglm"] else
           "activation" if family == "falcon" else "hidden_activation"
           if family in ("gemma2", "gemma3_text", "gemma3", "vaultgemma") else "hidden_act")
    if some():
        c[act] = r.choice(ACTIVATIONS + (["mish"] if some(0.1) else []))
    if some():
        c[EPS.get(family, "rms_norm_eps")] = r.choice([1e-5, 1e-6, 1e-3, 0.1])
    if some() and family != "gemma3":
        c["tie_word_embeddings"] = some(0.5)
    for flag in FLAGS.get(family, []):
        if some():
            c[flag] = some(0.5)
    if family == "internlm3" and some(0.6):
        c.pop("qkv_bias", None), c.pop("bias", None)
        c["attention_bias"] = c["mlp_bias"] = some(0.5)
    if family == "falcon":
        if some(0.3):
            c["num_kv_heads"] = r.choice([None, 1, 2, c["num_attention_heads"]])
        if some(0.2):
            c["num_ln_in_parallel_attn"] = r.choice([None, 1, 2])
        if some(0.2):
            c["n_embed"] = c["hidden_size"]
    if family == "mpt" and some(0.6):
        options = {"clip_qkv": r.choice([None, 0.5, 6.0]), "softmax_scale": r.choice([None, 0.3]), "alibi": some(0.9),
                   "alibi_bias_max": r.choice([8, 8, 16]), "qk_ln": some(0.1), "attn_impl": "triton",
                   "prefix_lm": False}
        c["attn_config"] = {k: v for k, v in options.items() if some(0.4)}
    if family == "mpt" and some():
        c.update({k: v for k, v in {"no_bias": some(0.9), "expansion_ratio": 4, "learned_pos_emb": True,
                                    "logit_scale": None, "init_device": "cpu"}.items() if some(0.5)})
    if family == "xglm" and some(0.5):
        c["pad_token_id"] = r.choice([1, 5, 0, None])
    if family == "olmo" and some(0.5):
        c["clip_qkv"] = r.choice([None, 0.3, 8.0])
    if family == "hyperclovax" and some(0.3):
        c["attention_multiplier"] = None
    if family in ("granite", "hyperclovax"):
        for key in ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"):
            if some(0.6):
                c[key] = r.choice([0.25, 1.0, 3.0, 12.0])
    if family in ("cohere", "cohere2") and some(0.5):
        c["logit_scale"] = r.choice([0.25, 1.0, 0.0625])
    if family in ("gptj", "codegen"):
        c["rotary_dim"] = r.choice([2, 2, 4, 8] + ([None, 3] if some(0.1) else []))
    if family in GPT_LIKE and family != "gpt2" and some():
        c["n_inner"] = r.choice([None, 20, 48])
    if family == "smollm3":
        if some(0.4):
            c["no_rope_layers"] = [r.choice([0, 1]) for _ in range(layers)]
        if some(0.4):
            c["no_rope_layer_interval"] = r.choice([1, 2, 3])
    if family == "nanochat" and some(0.5):
        c["final_logit_softcapping"] = r.choice([None, 2.0, 15.0])
    if family == "opt":
        for key in ("do_layer_norm_before", "_remove_final_layer_norm"):
            if some(0.4):
                c[key] = some(0.5)
        if some(0.4):
            c["word_embed_proj_dim"] = r.choice([None, 6, 40])
        if some(0.2):
            c["layer_norm_elementwise_affine"] = False
    if family in ("exaone4", "cohere2") and some(0.4):
        c["sliding_window_pattern"] = r.choice([1, 2, 3, 4, "LLLG", None])
    if family == "gpt2":
        if some():
            c["n_inner"] = r.choice([None, 20, 48])
        for key in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
            if some(0.25):
                c[key] = some(0.5)
    if family == "gpt_neo":
        c.update({"window_size": r.choice([2, 4, 9])} if some(0.7) else {})
        how = r.random()
        pattern = [r.choice(["global", "local"]) for _ in range(layers)]
        if how < 0.5:
            c["attention_types"] = r.choice([[[pattern, 1]], [[[p], 1] for p in pattern], [[["global", "local"], 1]]])
        if how > 0.4 and how < 0.98:
            c["attention_layers"] = pattern if some(0.9) else pattern + ["local"]
        if some():
            c["intermediate_size"] = r.choice([None, 20, 48])
    if family in WINDOWED:
        if some(0.75):
            c["sliding_window"] = r.choice([1, 3, 5, 9, 9, None])
        if some(0.25) or (family == "ministral" and some(0.6)):
            c["layer_types"] = layer_types(r, layers)
    if family in ("qwen2", "qwen3"):
        if some(0.7):
            c["use_sliding_window"] = some(0.75)
        if some(0.7):
            c["max_window_layers"] = r.choice([0, 1, 2, 28])
    if family in ("gemma2", "gemma3", "gemma3_text", "vaultgemma"):
        if some(0.5):
            c["query_pre_attn_scalar"] = r.choice([4, 12, 256])
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if some(0.5):
                c[key] = r.choice([None, 2.0, 30.0])
        if family in ("gemma3", "gemma3_text") and some(0.3):
            c["sliding_window_pattern"] = r.choice([1, 2, 3])


def make_config(r, families):
    family = r.choice(families)
    c, layers = sizes(r, family)
    family_options(r, family, c, layers)
    rope_options(r, family, c)
    foreign = r.choice([0, 0.02, 0.05])
    for key, value in FOREIGN.items():
        if r.random() < foreign:
            c[key] = value(r)
    # Keys left out: their defaults may be large, so that few of them are
    for key in list(c):
        if r.random() < (0.02 if key in ("hidden_size", "n_embd", "num_hidden_layers", "n_layer") else 0.05):
            c.pop(key)
    if r.random() < 0.04:
        c[r.choice(list(c))] = None
    if r.random() < 0.02:
        c[r.choice(list(c))] = r.choice(["3", True, 2.5, []])
    if (getattr(tf.CONFIG_MAPPING[family](), "pad_token_id", None) or 0) > 60:
        c["pad_token_id"] = None  # the class's default is beyond the small vocabulary
    c["torch_dtype" if r.random() < 0.5 else "dtype"] = r.choice(["float32", "float16", "bfloat16"])
    if r.random() < 0.01:
        c["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 8}
    c["model_type"] = "mistral" if family == "ministral" and r.random() < 0.3 else family
    if family != "gemma3":
        return family, c
    wrapper = dict(model_type="gemma3", text_config=dict(c, model_type="gemma3_text"), mm_tokens_per_image=4,
                   vision_config=dict(model_type="siglip_vision_model", hidden_size=8, intermediate_size=8,
                                      num_hidden_layers=1, num_attention_heads=1, image_size=28, patch_size=14))
    for where in (wrapper, wrapper["text_config"]):
        if r.random() < 0.2:
            where["tie_word_embeddings"] = r.random() < 0.5
    return family, wrapper


def too_large(config):
    text = config.get_text_config()
    width = text.hidden_size
    mlp = getattr(text, "intermediate_size", None) or 4 * width
    layers = text.num_hidden_layers
    return width * (mlp * layers + text.vocab_size) > 12_000_000 or layers > 30


def randomize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.3 if parameter.ndim == 1 else 0.3 / max(1, parameter.shape[-1] / 24) ** 0.5
        parameter.data = parameter.data * 0.1 + noise * scale


def exaone_name(name):
    for new, old in (("model.embed_tokens.", "transformer.wte."), ("model.layers.", "transformer.h."),
                     ("model.norm.", "transformer.ln_f."), ("o_proj.", "out_proj."),
                     ("self_attn.", "attn.attention."), ("input_layernorm.", "ln_1."),
                     ("post_attention_layernorm.", "ln_2."), ("mlp.gate_proj.", "mlp.c_fc_0."),
                     ("mlp.up_proj.", "mlp.c_fc_1."), ("mlp.down_proj.", "mlp.c_proj.")):
        name = name.replace(new, old)
    return name


def save_torch(r, state, path):
    """Writes tensors as torch.save does, some of them views or parameters, in either format."""
    whole = {}
    for name, value in state.items():
        if value.ndim == 2 and r.random() < 0.2:
            value = value.t().contiguous().t()
        elif value.ndim == 1 and r.random() < 0.2:
            value = torch.cat([value, value])[len(value):]
        elif value.is_floating_point() and value.element_size() > 1 and r.random() < 0.2:
            value = torch.nn.Parameter(value)
        whole[name] = value
    # torch 2.15 writes types without a storage class in the old format, but cannot read them
    untyped = any(value.dtype in (torch.float8_e4m3fn, torch.float8_e5m2) for value in whole.values())
    torch.save(whole, path, _use_new_zipfile_serialization=untyped or r.random() < 0.7)


def save_weights(r, state, folder, name, as_torch):
    if as_torch:
        save_torch(r, state, os.path.join(folder, name))
    else:
        save_file(state, os.path.join(folder, name), metadata={"format": "pt"})


def quantize(r, model, state, folder):
    """Stores the matrices of linear layers in 8-bit floats with scales, as quant_method fp8 has them."""
    head = model.get_output_embeddings()
    linear = [name + ".weight" for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    keys = [k for k in state if any(name.endswith(k) for name in linear)]
    block = r.choice([[2, 2], [4, 2], [2, 4], [64, 64], None])
    if block and any(s % b and s > b for k in keys for s, b in zip(state[k].shape, block)):
        block = None  # transformers takes other blocks than the format where sides are no multiples
    kind = r.choice([torch.float8_e4m3fn, torch.float8_e5m2])
    for key in keys:
        w = state[key].float()
        size = [min(b, s) for b, s in zip(block or w.shape, w.shape)]
        parts = w.view(w.shape[0] // size[0], size[0], w.shape[1] // size[1], size[1])
        scales = parts.abs().amax((1, 3)) / torch.finfo(kind).max
        scales = scales.to(r.choice([torch.float32, torch.bfloat16]))
        state[key] = (parts / scales.float()[:, None, :, None]).view(w.shape).to(kind)
        state[key + "_scale_inv"] = scales if block else scales.view(r.choice([(), (1,), (1, 1)]))
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": block}
    with open(path, "w") as file:
        json.dump(config, file, indent=1)


def write_weights(r, model, folder, as_torch, fp8):
    """Writes the weights in one of the layouts that are on the Hub. Returns whether the head is stored or tied."""
    state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    if model.config.model_type == "exaone":  # the names that its files have, which transformers translates
        state = {exaone_name(k): v for k, v in state.items()}
    head = next((k for k in ("lm_head.weight", "embed_out.weight") if k in state), None)
    tied = model.config.tie_word_embeddings
    has_head = True
    if tied and r.random() < 0.8:
        state.pop(head)
    elif tied and r.random() < 0.5:
        state[head] = state[head] + 0.1 * torch.randn(state[head].shape, generator=torch.Generator().manual_seed(1))
    elif not tied and r.random() < 0.05:
        state.pop(head)
        has_head = False
    prefix = model.base_model_prefix + "."
    if r.random() < 0.12:
        state = {k[len(prefix):] if k.startswith(prefix) and head not in state else k: v for k, v in state.items()}
    dtype = r.choice([torch.float32] * 4 + [torch.float16, torch.bfloat16])
    state = {k: v.to(dtype) for k, v in state.items()}
    if fp8:
        quantize(r, model, state, folder)
    if r.random() < 0.2:
        state["unneeded.mask"] = torch.ones(2, 2, dtype=r.choice([torch.bool, torch.int8, torch.float8_e4m3fn,
                                                                 torch.complex64, torch.int64]))
    names = list(state)
    r.shuffle(names)
    shards = r.choice([1, 1, 1, 2, 3])
    stem, suffix = ("pytorch_model", "bin") if as_torch else ("model", "safetensors")
    if shards == 1:
        save_weights(r, state, folder, f"{stem}.{suffix}", as_torch)
        return has_head
    index = {}
    for s in range(shards):
        name = f"{stem}-{s + 1:05}-of-{shards:05}.{suffix}"
        part = {k: state[k] for k in names[s::shards]}
        save_weights(r, part, folder, name, as_torch)
        index.update({k: name for k in part})
    if tied and head not in state:
        index[head] = name
    with open(os.path.join(folder, f"{stem}.{suffix}.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": index}, file)
    return has_head


def reference(folder, ids, has_head, how):
    model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=how).eval()
    tape = Tape()
    watch(model, tape)
    with torch.no_grad():
        tape.put("logits", model(input_ids=torch.tensor([ids])).logits)
    tape.sites.setdefault("embed", tape.sites["0.resid_pre"])
    if not has_head:
        tape.sites.pop("logits")
    return {k: v.numpy() for k, v in tape.sites.items()}


def run_microw(folder, work, ids, sites):
    """Returns the sites, or the message of the refusal."""
    np.save(os.path.join(work, "ids.npy"), np.array([ids], dtype=np.int32))
    store = os.path.join(work, "store")
    shutil.rmtree(store, ignore_errors=True)
    settings = {"name": "x", "store": store, "model": {"path": folder, "dtype": "f32", "device": "cpu"},
                "dataset": {"path": [os.path.join(work, "ids.npy")], "context": len(ids), "bos": "none"},
                "harvest": {"sites": sites, "dtype": "f32", "skip": "none"}}
    with open(os.path.join(work, "x.yaml"), "w") as file:
        yaml.safe_dump(settings, file)
    made = subprocess.run([MICROW, "harvest", os.path.join(work, "x.yaml")], capture_output=True, text=True,
                          errors="replace", env=dict(os.environ, OMP_NUM_THREADS="1"))
    if made.returncode:
        lines = [line for line in made.stderr.splitlines() if "error" in line]
        if made.returncode < 0 or not lines:
            raise SystemExit(f"microw ended with {made.returncode}: {made.stderr}")
        return None, lines[-1].replace(folder, "")
    with h5py.File(os.path.join(store, "activations", "x", "activations.h5")) as file:
        return {s: file[f"sites/{s}/values"][:] for s in sites}, ""


def worst_site(reference_sites, sites):
    worst, where = 0.0, ""
    for name, want in reference_sites.items():
        got = sites[name]
        if got.shape != want.shape:
            return float("inf"), f"{name} has the shape {got.shape}, not {want.shape}"
        error = np.abs(got - want).max() / max(np.abs(want).max(), 1e-20)
        if not error <= worst:
            worst, where = float(error), name
    return worst, where


def write_fixture(folder, target, ids, want):
    """Copies a model with the sites of transformers, for tests/golden/configurations."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("tokenizer.json"))
    sites = {k: torch.tensor(v) for k, v in want.items()}
    save_file(dict(sites, ids=torch.tensor([ids], dtype=torch.int32)), os.path.join(target, "golden.safetensors"))


def check(seed, families, folder, work, fixtures=None, as_torch=False, fp8=False):
    """Returns outcome, family and a text. `fixtures`: a folder for models that agree."""
    r = random.Random(seed)
    family, config = make_config(r, families)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        json.dump(TOKENIZER, file)
    ids = [r.randrange(61) for _ in range(r.choice([2, 7, 20, 33, 48]))]
    failure = None
    try:
        parsed = tf.AutoConfig.from_pretrained(folder)
        if too_large(parsed):
            return "skipped", family, "large by its defaults"
        how = "sdpa" if family == "falcon" else "eager"  # Falcon's eager attention adds ALiBi twice
        model = tf.AutoModelForCausalLM.from_config(parsed, attn_implementation=how)
        randomize(model, seed)
        has_head = write_weights(r, model, folder, as_torch, fp8)
        want = reference(folder, ids, has_head, how)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}".replace("\n", " ")[:160]
    if failure:
        weights = [f for f in os.listdir(folder) if f.startswith(("model", "pytorch_model"))]
        if not weights:  # no weights: microw has to refuse config.json itself
            refused = "model.safetensors" not in subprocess.run([MICROW, "layers", "--model", folder],
                                                                capture_output=True, text=True).stderr
            return ("refused", family, "both: " + failure) if refused else ("LOOSE", family, failure)
        sites, message = run_microw(folder, work, ids, ["0.resid_post"])
        return ("refused", family, "both: " + failure) if sites is None else ("LOOSE", family, failure)
    sites, message = run_microw(folder, work, ids, list(want))
    if sites is None:
        return "refused", family, "alone: " + message
    error, where = worst_site(want, sites)
    if fixtures and error < TOLERANCE:
        write_fixture(folder, os.path.join(fixtures, f"seed{seed}"), ids, want)
    return ("agree", family, "") if error < TOLERANCE else ("SILENT", family, f"{where}: relative error {error:.3g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-499", help="0-499, or 3,7,20-29")
    parser.add_argument("--families", nargs="*", default=FAMILIES, choices=FAMILIES, metavar="FAMILY")
    parser.add_argument("--torch", action="store_true", help="weights in files of torch.save, in both formats")
    parser.add_argument("--fp8", action="store_true", help="matrices in 8-bit floats with scales")
    parser.add_argument("--fixtures", help="writes models that agree, with the sites of transformers, to this folder")
    parser.add_argument("--keep", help="keeps the folders of seeds that do not agree in this folder")
    parser.add_argument("--show", action="store_true", help="prints also refusals")
    args = parser.parse_args()
    tf.utils.logging.disable_progress_bar()
    tf.utils.logging.set_verbosity(50)
    torch.set_num_threads(1)
    ranges = [part.partition("-") for part in args.seeds.split(",")]
    seeds = [s for first, _, last in ranges for s in range(int(first), int(last or first) + 1)]
    counts, alone, by_family = collections.Counter(), 0, collections.Counter()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as work:
            folder = os.path.join(work, "model")
            os.mkdir(folder)
            outcome, family, text = check(seed, args.families, folder, work, args.fixtures, args.torch, args.fp8)
            counts[outcome] += 1
            alone += text.startswith("alone")
            by_family[family, outcome] += 1
            if outcome in ("SILENT", "LOOSE") or (args.show and outcome == "refused"):
                print(f"seed {seed} {family} {outcome}: {text}", flush=True)
                if args.keep:
                    shutil.copytree(folder, os.path.join(args.keep, str(seed)), dirs_exist_ok=True)
    for family in args.families:
        print(f"{family:16}", "  ".join(f"{o} {by_family[family, o]:4}" for o in
                                        ("agree", "refused", "LOOSE", "SILENT", "skipped")))
    print(f"agree {counts['agree']}, refused {counts['refused']} ({alone} alone), LOOSE {counts['LOOSE']}, "
          f"SILENT {counts['SILENT']}, skipped {counts['skipped']}; transformers {tf.__version__}")
    return 1 if counts["SILENT"] or counts["LOOSE"] else 0


if __name__ == "__main__":
    sys.exit(main())
