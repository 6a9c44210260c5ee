"""Repeats microw's evaluation of the quickstart with transformers and torch, and compares the results.

    python tools/check_evaluation.py --store store      # after: microw run configs/quickstart.yaml

Cross-entropies must agree within 1e-5 relative: f32 sums are in another order.
"""
import argparse
import json

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer

BOS, CONTEXT, LAYER, MODEL = 0, 64, 2, "configs/demo/model"


def sequences(limit):
    """Returns the sequences of dataset: {split: line, context: 64, pack: false}."""
    tokenizer = Tokenizer.from_file(MODEL + "/tokenizer.json")
    total = 0
    with open("configs/demo/corpus.txt", encoding="utf-8") as f:
        for line in f:
            ids = tokenizer.encode(line.rstrip("\n")).ids
            for at in range(0, len(ids), CONTEXT - 1):
                if total >= limit:
                    return
                sequence = [BOS] + ids[at:at + CONTEXT - 1]
                total += len(sequence)
                yield torch.tensor([sequence])


def replaced(x, ids, mode, sae, k):
    rows = ids[0] != BOS
    y = x.clone()
    if mode == "zero":
        y[:, rows] = 0
    elif mode == "sae":
        a = (x[0] - sae["b_dec"]) @ sae["W_enc"].T + sae["b_enc"]
        top = a.topk(k, dim=1)
        z = torch.zeros_like(a).scatter(1, top.indices, top.values.relu())
        y[:, rows] = (z @ sae["W_dec"] + sae["b_dec"])[rows]
    return y


def cross_entropy(model, mode, sae, k, limit):
    total, count = 0.0, 0
    for ids in sequences(limit):
        def hook(module, args, out):
            if isinstance(out, tuple):
                return (replaced(out[0], ids, mode, sae, k),) + out[1:]
            return replaced(out, ids, mode, sae, k)

        handle = model.transformer.h[LAYER].register_forward_hook(hook)
        with torch.no_grad():
            log_p = model(ids).logits[0].double().log_softmax(-1)
        handle.remove()
        total -= log_p[:-1].gather(1, ids[0, 1:, None]).sum().item()
        count += ids.shape[1] - 1
    return total / count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="store")
    args = parser.parse_args()
    with open(f"{args.store}/runs/quickstart/evaluate.json", encoding="utf-8") as f:
        ours = json.load(f)["cross_entropy"]
    with open(f"{args.store}/sae_models/quickstart/cfg.json", encoding="utf-8") as f:
        k = json.load(f)["k"]
    sae = load_file(f"{args.store}/sae_models/quickstart/sae.safetensors")
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    for mode in ("clean", "sae", "zero"):
        theirs = cross_entropy(model, mode, sae, k, 20_000)
        print(f"{mode}: microw {ours[mode]:.8f}, torch {theirs:.8f}")
        assert abs(ours[mode] - theirs) < 1e-5 * theirs


if __name__ == "__main__":
    main()
