"""Makes small random models of every family, with the activations that transformers computes, for tests/golden/models.

    python tools/make_golden_models.py --out tests/golden/models

Each folder is a Hugging Face model folder with golden.safetensors: `ids` [2, 12] and, for every site of microw, the
activations of both sequences, [24, width] f32. A new family needs a configuration in configs() and, unless its modules
are named as in Llama, a branch in watch().
"""
import argparse
import os
import shutil

import torch
from safetensors.torch import save_file
import transformers as tf

VOCAB, LENGTH = 61, 12
COMMON = dict(vocab_size=VOCAB, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
              max_position_embeddings=64)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16, "rope_theta": 10000.0}


def configs():
    gqa = dict(COMMON, num_key_value_heads=2)
    yield "gpt2", tf.GPT2Config(vocab_size=VOCAB, n_positions=64, n_embd=24, n_layer=2, n_head=4)
    yield "gpt_neo", tf.GPTNeoConfig(vocab_size=VOCAB, hidden_size=24, num_layers=2, num_heads=4, intermediate_size=40,
                                     max_position_embeddings=64, window_size=4,
                                     attention_types=[[["global", "local"], 1]])
    yield "gpt_neox", tf.GPTNeoXConfig(**COMMON, rotary_pct=0.34, use_parallel_residual=True)
    yield "gpt_neox_serial", tf.GPTNeoXConfig(**COMMON, rotary_pct=1.0, use_parallel_residual=False)
    yield "llama", tf.LlamaConfig(**gqa)
    yield "llama3", tf.LlamaConfig(**gqa, rope_parameters=LLAMA3, tie_word_embeddings=True, attention_bias=True,
                                   mlp_bias=True)
    yield "mistral", tf.MistralConfig(**gqa, sliding_window=5)
    yield "qwen2", tf.Qwen2Config(**gqa)
    yield "qwen3", tf.Qwen3Config(**gqa, head_dim=8)
    yield "gemma", tf.GemmaConfig(**gqa, head_dim=8)
    yield "gemma2", tf.Gemma2Config(**gqa, head_dim=8, sliding_window=5, query_pre_attn_scalar=12,
                                    attn_logit_softcapping=2.0, final_logit_softcapping=3.0)
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    yield "gemma3", tf.Gemma3TextConfig(**dict(gqa, num_hidden_layers=3), head_dim=8, sliding_window=5,
                                        query_pre_attn_scalar=12, layer_types=layers)


def randomize(model):
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data * 0.1 + noise * (0.3 if parameter.ndim == 1 else 0.15)


class Tape:
    """Records inputs and outputs of modules."""

    def __init__(self):
        self.sites = {}

    def put(self, name, value):
        self.sites[name] = value.detach().reshape(-1, value.shape[-1]).clone().contiguous()

    def outputs(self, module, name):
        module.register_forward_hook(lambda m, a, out: self.put(name, out[0] if isinstance(out, tuple) else out))

    def inputs(self, module, name):
        module.register_forward_pre_hook(lambda m, args, kw: self.put(name, args[0] if args else kw["hidden_states"]),
                                         with_kwargs=True)


def split_gpt2(tape, module, prefix, width):
    def hook(m, a, out):
        for i, n in enumerate("qkv"):
            tape.put(f"{prefix}.attn_{n}", out[..., i * width:(i + 1) * width])
    module.register_forward_hook(hook)


def split_neox(tape, module, prefix, heads):
    def hook(m, a, out):
        parts = out.view(*out.shape[:-1], heads, 3, -1)
        for i, n in enumerate("qkv"):
            tape.put(f"{prefix}.attn_{n}", parts[..., i, :].flatten(-2))
    module.register_forward_hook(hook)


def watch(model, family, tape):
    base = getattr(model.base_model, "language_model", model.base_model)
    blocks = base.h if hasattr(base, "h") else base.layers
    for i, block in enumerate(blocks):
        p = str(i)
        tape.inputs(block, f"{p}.resid_pre")
        tape.outputs(block, f"{p}.resid_post")
        if family == "gpt2":
            split_gpt2(tape, block.attn.c_attn, p, model.config.n_embd)
            out, mid, down, act = block.attn.c_proj, block.ln_2, block.mlp.c_proj, block.mlp
        elif family == "gpt_neo":
            inner = block.attn.attention
            for n in "qkv":
                tape.outputs(getattr(inner, f"{n}_proj"), f"{p}.attn_{n}")
            out, mid, down, act = inner.out_proj, block.ln_2, block.mlp.c_proj, block.mlp
        elif family.startswith("gpt_neox"):
            split_neox(tape, block.attention.query_key_value, p, model.config.num_attention_heads)
            out, mid, down, act = (block.attention.dense, block.post_attention_layernorm, block.mlp.dense_4h_to_h,
                                   block.mlp)
            if model.config.use_parallel_residual:
                mid = None
        else:
            for n in "qkv":
                tape.outputs(getattr(block.self_attn, f"{n}_proj"), f"{p}.attn_{n}")
            gemma = family in ("gemma2", "gemma3")
            out, down = block.self_attn.o_proj, block.mlp.down_proj
            mid = block.pre_feedforward_layernorm if gemma else block.post_attention_layernorm
            act = block.post_feedforward_layernorm if gemma else block.mlp
            tape.outputs(block.post_attention_layernorm if gemma else out, f"{p}.attn_out")
        tape.inputs(out, f"{p}.attn_z")
        if f"{p}.attn_out" not in tape.sites and family not in ("gemma2", "gemma3"):
            tape.outputs(out, f"{p}.attn_out")
        if mid is not None:
            tape.inputs(mid, f"{p}.resid_mid")
        tape.inputs(down, f"{p}.mlp_act")
        tape.outputs(act, f"{p}.mlp_out")
    if family == "gpt2" or family == "gpt_neo":
        tape.outputs(base.wte, "embed")
    elif family.startswith("gpt_neox"):
        tape.outputs(base.embed_in, "embed")
    elif family not in ("gemma", "gemma2"):
        tape.outputs(base.embed_tokens, "embed")


def release_activation(path):
    """Names the activation as the released Gemma models do: transformers reads their "gelu" as the tanh approximation."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace('"gelu_pytorch_tanh"', '"gelu"'))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    for name, config in configs():
        torch.manual_seed(0)
        config._attn_implementation = "eager"
        model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        randomize(model)
        ids = torch.randint(0, VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(3))
        tape = Tape()
        watch(model, name, tape)
        with torch.no_grad():
            tape.put("logits", model(input_ids=ids, use_cache=False).logits)
        if name in ("gemma", "gemma2"):
            tape.sites["embed"] = tape.sites["0.resid_pre"].clone()
        folder = os.path.join(args.out, name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        if name == "gemma":
            release_activation(os.path.join(folder, "config.json"))
        generation = os.path.join(folder, "generation_config.json")
        if os.path.exists(generation):
            os.remove(generation)
        tape.sites["ids"] = ids.to(torch.int32)
        save_file(tape.sites, os.path.join(folder, "golden.safetensors"))
        size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
        print(name, len(tape.sites), "tensors", size)


if __name__ == "__main__":
    main()
