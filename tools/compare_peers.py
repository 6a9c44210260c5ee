"""Trains SAEs of every variant on the same activations with microw, dictionary_learning, SAELens and sparsify (torch,
CPU).

    tools/peers_venv.sh /tmp/peers
    build/microw harvest configs/quickstart.yaml
    /tmp/peers/bin/python tools/compare_peers.py

All use the same rows, with the same scaling, batch, learning rate, warm-up, decay, number of rows and definition of
dead latents; each tool keeps its own initialization, AuxK and seed-dependent order (microw's TopK family also with
b_dec from 0, as SAELens starts). Variants that select by k have the same k; JumpReLU has the same target for L0; the
coefficient of ReLU and Gated is searched for each tool until L0 is that k. FVU, L0, dead latents and the recovered
cross-entropy are computed here, by the same code for all; BatchTopK SAEs use their thresholds. Times are of training
alone, with the tools one after another in each round; FVU and time are medians of --rounds.
"""
import argparse
import math
import os
import statistics

import h5py
import numpy as np
import torch
import transformers
from check_evaluation import BOS, LAYER, MODEL, sequences
from peers import BATCH, K, N, dictionary_learning, microw_runner, saelens, sparsify

SEARCHED = {"relu": 9.0, "gated": 2.0}  # first coefficient
ZERO = "microw, b_dec from 0"
VARIANTS = {
    "topk": (ZERO, "dictionary_learning", "SAELens", "sparsify"),
    "multi_topk": (ZERO, "sparsify"),
    "batch_topk": (ZERO, "dictionary_learning", "SAELens"),
    "matryoshka_topk": (ZERO,),
    "matryoshka_batch_topk": (ZERO, "dictionary_learning", "SAELens"),
    "relu": ("dictionary_learning", "SAELens"),
    "jump_relu": ("dictionary_learning", "SAELens"),
    "gated": ("dictionary_learning", "SAELens"),
}


def activations(store, site):
    with h5py.File(os.path.join(store, "activations/quickstart/activations.h5")) as f:
        raw = f[f"sites/{site}/values"][:].astype(np.uint32) << 16
        x = torch.from_numpy(raw.view(np.float32))
        return x, x.shape[1] ** 0.5 / f[f"sites/{site}/norm_mean"][0]


class Damage:
    """Cross-entropy of the demo model with the site replaced, and the share recovered against zero ablation."""

    def __init__(self, scale, limit=5000):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
        self.scale, self.ids = scale, list(sequences(limit))
        self.clean = self.cross_entropy(lambda x: x)
        self.zero = self.cross_entropy(torch.zeros_like)

    def cross_entropy(self, replace):
        total, count = 0.0, 0
        for ids in self.ids:
            def hook(module, args, out):
                x = out[0] if isinstance(out, tuple) else out
                y = x.clone()
                rows = ids[0] != BOS
                y[:, rows] = replace(x[0, rows])
                return (y,) + out[1:] if isinstance(out, tuple) else y

            handle = self.model.transformer.h[LAYER].register_forward_hook(hook)
            log_p = self.model(ids).logits[0].double().log_softmax(-1)
            handle.remove()
            total -= log_p[:-1].gather(1, ids[0, 1:, None]).sum().item()
            count += ids.shape[1] - 1
        return total / count

    def recovered(self, encode_decode):
        spliced = self.cross_entropy(lambda x: encode_decode(x * self.scale)[1] / self.scale)
        return (self.zero - spliced) / (self.zero - self.clean)


@torch.no_grad()
def measure(encode_decode, x, damage):
    error, active, fired, mean = 0.0, 0, torch.zeros(N, dtype=torch.long), x.double().mean(0)
    spread = ((x.double() - mean) ** 2).sum().item()
    for part in x.split(4096):
        z, y = encode_decode(part)
        error += ((part.double() - y.double()) ** 2).sum().item()
        active += (z > 0).sum().item()
        fired += (z > 0).sum(0)
    return {"fvu": error / spread, "l0": active / len(x), "dead": (fired == 0).sum().item() / N,
            "recovered": damage.recovered(encode_decode)}


def run(train, variant, x, steps, seed, amount, damage):
    seconds, encode_decode = train(variant, x, steps, seed, amount)
    return dict(measure(encode_decode, x, damage), seconds=seconds, amount=amount)


def next_amount(runs):
    """Returns the next coefficient, on the line through the last two runs in logarithms; after one run, larger if L0 is
    too large."""
    a, b = runs[-1], runs[-2] if len(runs) > 1 else None
    slope = math.log(a["l0"] / b["l0"]) / math.log(a["amount"] / b["amount"]) if b else -0.8
    change = math.log(K / max(a["l0"], 0.1)) / (slope if slope < -0.1 else -0.8)
    return a["amount"] * math.exp(max(-2.0, min(2.0, change)))


def searched(train, variant, x, steps, seed, damage, state):
    """Searches the coefficient in the first round, and uses it in the next ones."""
    runs, amount = [], state.get("amount", SEARCHED[variant])
    for _ in range(5):
        runs.append(run(train, variant, x, steps, seed, amount, damage))
        if abs(runs[-1]["l0"] / K - 1) < 0.04:
            break
        amount = next_amount(runs)
    best = min(runs, key=lambda r: abs(math.log(max(r["l0"], 0.1) / K)))
    state["amount"] = best["amount"]
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microw", default="build/microw")
    parser.add_argument("--store", default="store")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    raw, scale = activations(args.store, "2.resid_post")
    x, steps = raw * scale, -(-args.tokens // BATCH)
    damage = Damage(scale)
    tools = {"microw": microw_runner(args.microw, args.store, scale),
             ZERO: microw_runner(args.microw, args.store, scale, ["train.center=zero"]), "dictionary_learning": dictionary_learning,
             "SAELens": saelens, "sparsify": sparsify}
    print(f"{len(x)} rows of width {x.shape[1]}, {N} latents, k {K}, {steps} steps of {BATCH}, {args.rounds} rounds")
    for variant in args.variants:
        results = {name: [] for name in ("microw",) + VARIANTS[variant]}
        states = {name: {} for name in results}
        for seed in range(args.rounds):
            for name in results:
                if variant in SEARCHED:
                    one = searched(tools[name], variant, x, steps, seed, damage, states[name])
                else:
                    one = run(tools[name], variant, x, steps, seed, None, damage)
                results[name].append(one)
        for name, rounds in results.items():
            middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0] if key != "amount"}
            spread = max(r["fvu"] for r in rounds) - min(r["fvu"] for r in rounds)
            ours = statistics.median(r["seconds"] for r in results["microw"])
            print(f"| {variant} | {name} | {middle['fvu']:.4f} ({spread:.4f}) | {middle['l0']:.2f} | "
                  f"{100 * middle['dead']:.1f} % | {100 * middle['recovered']:.2f} % | {middle['seconds']:.1f} s | "
                  f"{middle['seconds'] / ours:.1f} | {states[name].get('amount', '')}", flush=True)


if __name__ == "__main__":
    main()
