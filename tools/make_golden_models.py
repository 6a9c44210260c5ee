"""Makes small random models of every family, with the activations that transformers computes, for tests/golden/models.

    python tools/make_golden_models.py --out tests/golden/models

Each folder is a Hugging Face model folder with golden.safetensors: `ids` [2, 12] and, for every site of microw, the
activations of both sequences, [24, width] f32. A new family needs a configuration in configs() and, where its modules
have names that no other family has, these names in watch_block().
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
    small = dict(COMMON, hidden_size=16, intermediate_size=24)
    few = dict(small, num_key_value_heads=2)
    four = dict(few, num_hidden_layers=4)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0}
    yield "ministral", tf.MinistralConfig(**few, head_dim=6, sliding_window=5,
                                          layer_types=["sliding_attention", "full_attention"])
    yield "starcoder2", tf.Starcoder2Config(**few, sliding_window=5)
    yield "seed_oss", tf.SeedOssConfig(**few, head_dim=6, attention_out_bias=True)
    yield "cwm", tf.CwmConfig(**few, head_dim=8, sliding_window=5)
    yield "internlm3", tf.InternLM3Config(**few, head_dim=6, attention_bias=True, mlp_bias=True)
    yield "arcee", tf.ArceeConfig(**few, rope_parameters=yarn)
    yield "nemotron", tf.NemotronConfig(**few, head_dim=8)
    yield "jais2", tf.Jais2Config(**few)
    yield "olmo", tf.OlmoConfig(**few, clip_qkv=0.3)
    yield "olmo2", tf.Olmo2Config(**few)
    yield "olmo3", tf.Olmo3Config(**four, sliding_window=5, rope_parameters={
        "full_attention": yarn, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
    yield "exaone4", tf.Exaone4Config(**four, sliding_window=5)
    yield "phi", tf.PhiConfig(**few, qk_layernorm=True)
    yield "phi3", tf.Phi3Config(**few, sliding_window=5)
    yield "phi3_long", tf.Phi3Config(**few, original_max_position_embeddings=8, rope_parameters={
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.5], "long_factor": [2.0, 9.0]})
    yield "persimmon", tf.PersimmonConfig(**small)
    yield "stablelm", tf.StableLmConfig(**few, use_qkv_bias=True, rope_parameters={
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})
    yield "stablelm_parallel", tf.StableLmConfig(**few, use_parallel_residual=True, qk_layernorm=True, rope_parameters={
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})
    yield "granite", tf.GraniteConfig(**few, embedding_multiplier=3.0, residual_multiplier=0.4,
                                      attention_multiplier=0.3, logits_scaling=5.0)
    yield "smollm3", tf.SmolLM3Config(**four, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=5)
    yield "cohere", tf.CohereConfig(**few, use_qk_norm=True)
    yield "cohere2", tf.Cohere2Config(**four, sliding_window=5)
    yield "glm", tf.GlmConfig(**few, head_dim=8)
    yield "glm4", tf.Glm4Config(**few, head_dim=8)
    yield "helium", tf.HeliumConfig(**few, head_dim=4)
    yield "ernie4_5", tf.Ernie4_5Config(**few, head_dim=6, use_bias=True)
    yield "hunyuan_v1_dense", tf.HunYuanDenseV1Config(**few, head_dim=4, rope_parameters={
        "rope_type": "dynamic", "alpha": 50.0, "factor": 1.0, "rope_theta": 10000.0})
    yield "nanochat", tf.NanoChatConfig(**few, final_logit_softcapping=2.0)
    yield "vaultgemma", tf.VaultGemmaConfig(**few, head_dim=8, sliding_window=5, query_pre_attn_scalar=12,
                                            attn_logit_softcapping=2.0, final_logit_softcapping=3.0)
    yield "exaone", tf.ExaoneConfig(**few)
    yield "iquestcoder", tf.IQuestCoderConfig(**few, head_dim=6)
    yield "ministral3", tf.Ministral3Config(**few, head_dim=6, rope_parameters=dict(
        yarn, original_max_position_embeddings=4, llama_4_scaling_beta=0.4))
    vision = dict(model_type="pixtral", hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                  image_size=28, patch_size=14, head_dim=8)
    yield "mistral3", tf.Mistral3Config(
        text_config=dict(few, model_type="mistral", head_dim=6, sliding_window=None), vision_config=vision,
        image_token_index=10, spatial_merge_size=2, vision_feature_layer=-1, tie_word_embeddings=False)
    yield "hyperclovax", tf.HyperCLOVAXConfig(**few, embedding_multiplier=3.0, residual_multiplier=0.4,
                                              logits_scaling=0.3)
    yield "apertus", tf.ApertusConfig(**few, rope_parameters=LLAMA3, pad_token_id=0)
    bloom = dict(vocab_size=VOCAB, hidden_size=18, n_layer=2, n_head=6)
    yield "bloom", tf.BloomConfig(**bloom)
    falcon = dict(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, ffn_hidden_size=24,
                  max_position_embeddings=64)
    yield "falcon", tf.FalconConfig(**falcon)
    yield "falcon_alibi", tf.FalconConfig(**falcon, alibi=True, multi_query=False, parallel_attn=False, bias=True)
    yield "falcon_new", tf.FalconConfig(**falcon, new_decoder_architecture=True, num_kv_heads=2)
    yield "mpt", tf.MptConfig(vocab_size=VOCAB, d_model=18, n_heads=6, n_layers=2, max_seq_len=64,
                              attn_config={"clip_qkv": 0.3, "softmax_scale": 0.7})
    yield "xglm", tf.XGLMConfig(vocab_size=VOCAB, d_model=16, num_layers=2, attention_heads=4, ffn_dim=24,
                                max_position_embeddings=64, pad_token_id=5)
    gpt = dict(vocab_size=VOCAB, n_positions=64, n_embd=16, n_layer=2, n_head=4)
    yield "gpt_bigcode", tf.GPTBigCodeConfig(**gpt)
    yield "gpt_bigcode_heads", tf.GPTBigCodeConfig(**gpt, multi_query=False)
    yield "gptj", tf.GPTJConfig(**gpt, rotary_dim=2)
    yield "codegen", tf.CodeGenConfig(**gpt, rotary_dim=4)
    yield "opt_norms_last", tf.OPTConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, ffn_dim=24,
        max_position_embeddings=64, word_embed_proj_dim=10, do_layer_norm_before=False)
    yield "opt", tf.OPTConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, ffn_dim=24,
                              max_position_embeddings=64, word_embed_proj_dim=16)


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

    def outputs(self, module, name, scale=1.0):
        module.register_forward_hook(
            lambda m, a, out: self.put(name, (out[0] if isinstance(out, tuple) else out) * scale))

    def inputs(self, module, name):
        module.register_forward_pre_hook(lambda m, args, kw: self.put(name, args[0] if args else kw["hidden_states"]),
                                         with_kwargs=True)


def child(module, *names):
    """Returns the first child module of these names, None if there is none."""
    return next((getattr(module, n) for n in names if getattr(module, n, None) is not None), None)


def spans_of(config, family):
    """The spans of columns that q, k and v have in the output of one matrix: lists of (first, width)."""
    heads = config.num_attention_heads
    d = (family == "phi3" and getattr(config, "head_dim", None)) or config.hidden_size // heads
    kv = getattr(config, "num_key_value_heads", None) or heads
    if family in ("gpt_bigcode", "falcon"):
        kv = 1 if config.multi_query else heads
    if family == "falcon" and config.new_decoder_architecture:
        kv = config.num_kv_heads
    groups = kv if family in ("gpt_neox", "persimmon", "gpt_bigcode", "falcon", "bloom") else 1
    order = "qkv"
    if family == "codegen":
        groups, order = 4, "qvk"
    width = {"q": heads * d // groups, "k": kv * d // groups, "v": kv * d // groups}
    spans, at = {n: [] for n in "qkv"}, 0
    for _ in range(groups):
        for n in order:
            spans[n].append((at, width[n]))
            at += width[n]
    return spans


def watch_fused(tape, module, prefix, spans):
    def hook(m, a, out):
        for n, runs in spans.items():
            tape.put(f"{prefix}.attn_{n}", torch.cat([out[..., first:first + width] for first, width in runs], -1))
    module.register_forward_hook(hook)


def watch_block(block, config, family, prefix, tape):
    """Families whose outputs have norms: the contribution to the residual stream is after the norm."""
    attention = child(block, "self_attn", "attention", "attn", "self_attention")
    attention = child(attention, "attention") or attention  # GPT-Neo
    mlp = child(block, "mlp", "ffn") or block  # OPT
    fused = child(attention, "c_attn", "query_key_value", "qkv_proj", "Wqkv")
    out = child(attention, "o_proj", "dense", "c_proj", "out_proj")
    first = child(mlp, "gate_proj", "gate_up_proj", "up_proj", "c_fc", "dense_h_to_4h", "fc1", "fc_in")
    down = child(mlp, "down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out")
    norms_after = child(block, "post_feedforward_layernorm", "post_mlp_layernorm", "post_norm2")
    if isinstance(norms_after, torch.nn.Identity):
        norms_after = None
    attn_out, mlp_out = out, down
    if norms_after:
        attn_out = child(block, "post_self_attn_layernorm", "post_norm1", "post_attention_layernorm")
        mlp_out = norms_after
    scale = config.residual_multiplier if family in ("granite", "hyperclovax") else 1.0
    tape.inputs(block, f"{prefix}.resid_pre")
    tape.outputs(block, f"{prefix}.resid_post")
    tape.inputs(fused or attention.q_proj, f"{prefix}.attn_in")
    if fused:
        watch_fused(tape, fused, prefix, spans_of(config, family))
    else:
        for n in "qkv":
            tape.outputs(getattr(attention, f"{n}_proj"), f"{prefix}.attn_{n}")
    tape.inputs(out, f"{prefix}.attn_z")
    tape.outputs(attn_out, f"{prefix}.attn_out", scale)
    parallel = (config.use_parallel_residual if family in ("gpt_neox", "stablelm") else
                config.new_decoder_architecture or config.parallel_attn if family == "falcon" else
                family in ("phi", "gptj", "codegen", "cohere", "cohere2"))
    if not parallel:
        before = child(block, "pre_feedforward_layernorm", "ln_2", "final_layer_norm", "feedforward_layernorm",
                       "norm_2")
        if before is None and (not norms_after or family in ("glm4", "hyperclovax")):
            before = block.post_attention_layernorm
        if family == "opt" and not config.do_layer_norm_before:
            before = first
        tape.inputs(before or mlp, f"{prefix}.resid_mid")
    tape.inputs(first, f"{prefix}.mlp_in")
    tape.inputs(down, f"{prefix}.mlp_act")
    tape.outputs(mlp_out, f"{prefix}.mlp_out", scale)


def watch(model, tape):
    """Records all sites of a model but the logits. Scaled embeddings are the residual stream of the first block."""
    base = getattr(model.base_model, "language_model", model.base_model)
    base = getattr(base, "decoder", base)
    family = model.config.get_text_config().model_type
    for i, block in enumerate(child(base, "h", "layers", "blocks")):
        watch_block(block, base.config, family, str(i), tape)
    if child(base, "project_in"):
        tape.outputs(base.project_in, "embed")
    elif family not in ("gemma", "gemma2", "granite", "hyperclovax"):
        tape.outputs(child(base, "wte", "embed_in", "embed_tokens", "word_embeddings"), "embed")


def release_activation(path):
    """Names the activation as the released Gemma models do: transformers reads their "gelu" as the tanh approximation."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace('"gelu_pytorch_tanh"', '"gelu"'))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", nargs="*", help="names of models")
    args = parser.parse_args()
    for name, config in configs():
        if args.only and name not in args.only:
            continue
        if (getattr(config, "pad_token_id", None) or 0) >= VOCAB:
            config.pad_token_id = None
        torch.manual_seed(0)
        # Falcon's eager attention adds ALiBi twice
        how = "sdpa" if name.startswith("falcon") else "eager"
        kind = tf.AutoModelForImageTextToText if name == "mistral3" else tf.AutoModelForCausalLM
        model = kind.from_config(config, attn_implementation=how).eval()
        randomize(model)
        # 10 is the token of images
        ids = torch.randint(11 if name == "mistral3" else 0, VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(3))
        tape = Tape()
        watch(model, tape)
        with torch.no_grad():
            tape.put("logits", model(input_ids=ids, use_cache=False).logits)
        tape.sites.setdefault("embed", tape.sites["0.resid_pre"].clone())
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
