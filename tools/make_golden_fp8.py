"""Makes models in 8-bit floats for tests/golden/fp8, with the activations that transformers computes.

    python tools/make_golden_fp8.py --out tests/golden/fp8

qwen3 has blocks of 16 x 8 with an f32 scale each, lm_head and embedding in bf16; e5m2 has one scale for each matrix,
bf16 scales and 8-bit floats of the other kind. Without a GPU transformers multiplies the stored numbers by their scales
when it loads them; the same model with the products stored as f32 must give the same logits. ragged has matrices whose
sides are no multiples of the blocks: its golden activations are those of the products by the definition of the format
(w[i, j] is in block i / 128, j / 128; inference/kernel.py of DeepSeek-V3), since transformers cuts such a matrix into
equal parts (findings/transformers_fp8_blocks.sh).
"""
import argparse
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
import transformers as tf

from make_golden_models import LENGTH, VOCAB, Tape, randomize, watch

TYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
MODELS = {  # hidden size, intermediate size, kind, block, type of the scales
    "qwen3": (32, 48, "e4m3", [16, 8], torch.float32),
    "e5m2": (32, 48, "e5m2", None, torch.bfloat16),
    "ragged": (24, 40, "e4m3", [16, 16], torch.float32),
}


def spread(scales, shape, block):
    """One scale for each number of a matrix."""
    if block is None:
        return scales.float().expand(shape)
    rows = torch.arange(shape[0]) // block[0]
    columns = torch.arange(shape[1]) // block[1]
    return scales.float()[rows][:, columns]


def quantize(weight, kind, block, scale_type):
    largest = torch.finfo(TYPES[kind]).max
    if block is None:
        scales = (weight.abs().max() / largest).to(scale_type)
    else:
        parts = [[weight[i:i + block[0], j:j + block[1]].abs().max() / largest
                  for j in range(0, weight.shape[1], block[1])] for i in range(0, weight.shape[0], block[0])]
        scales = torch.tensor(parts).to(scale_type)
    return (weight / spread(scales, weight.shape, block)).to(TYPES[kind]), scales


def make(name, hidden, intermediate, kind, block, scale_type, out):
    torch.manual_seed(0)
    config = tf.Qwen3Config(vocab_size=VOCAB, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=4,
                            num_key_value_heads=2, intermediate_size=intermediate, max_position_embeddings=64,
                            head_dim=8, dtype="bfloat16")
    model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomize(model)
    folder, plain = os.path.join(out, name), os.path.join(out, name + ".plain")
    model.to(torch.bfloat16).save_pretrained(folder)
    stored, products = load_file(os.path.join(folder, "model.safetensors")), {}
    for key in list(stored):
        products[key] = stored[key].float()
        if not key.endswith("proj.weight"):
            continue
        stored[key], scales = quantize(products[key], kind, block, scale_type)
        stored[key + "_scale_inv"] = scales
        products[key] = stored[key].float() * spread(scales, stored[key].shape, block)
    save_file(stored, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    shutil.copytree(folder, plain)
    save_file(products, os.path.join(plain, "model.safetensors"), metadata={"format": "pt"})
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": block,
                                     "modules_to_not_convert": ["lm_head"]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
    for root in (folder, plain):
        if os.path.exists(os.path.join(root, "generation_config.json")):
            os.remove(os.path.join(root, "generation_config.json"))
    ids = torch.randint(0, VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(3))
    tape = Tape()
    logits = []
    for root in (folder, plain) if name != "ragged" else (plain,):
        model = tf.AutoModelForCausalLM.from_pretrained(root, dtype=torch.float32, attn_implementation="eager").eval()
        if not logits:
            watch(model, "qwen3", tape)
        with torch.no_grad():
            logits.append(model(input_ids=ids, use_cache=False).logits)
    assert torch.equal(logits[0], logits[-1]), name
    tape.put("logits", logits[0])
    tape.sites["ids"] = ids.to(torch.int32)
    save_file(tape.sites, os.path.join(folder, "golden.safetensors"))
    shutil.rmtree(plain)


def write_values(out):
    """Every number of both kinds, and the same in f32."""
    codes = torch.arange(256).to(torch.uint8)
    values = {name: codes.clone().view(kind) for name, kind in TYPES.items()}
    values.update({name + ".f32": stored.float() for name, stored in list(values.items())})
    save_file(values, os.path.join(out, "values.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    for name, parts in MODELS.items():
        make(name, *parts, args.out)
    write_values(args.out)


if __name__ == "__main__":
    main()
