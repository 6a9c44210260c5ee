"""Trains TopK and BatchTopK SAEs on the same activations with microw, dictionary_learning and SAELens (torch, CPU).

    /tmp/peers/bin/pip install -r tools/requirements-peers.txt
    build/microw harvest configs/quickstart.yaml
    /tmp/peers/bin/python tools/compare_peers.py

Same rows, scaled the same way, batch, learning rate, warm-up, decay, number of rows and definition of dead latents; each
tool keeps its own initialization, AuxK and seed-dependent order. FVU, L0 and dead latents are computed here, over all
rows, by the same code for all; BatchTopK SAEs use their thresholds. Time is of training alone, one tool after another in
each round, medians of --rounds.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import h5py
import numpy as np
import torch
from safetensors.torch import load_file

BATCH, LR, K, N = 2048, 1e-3, 16, 1024


def activations(store, site):
    with h5py.File(os.path.join(store, "activations/quickstart/activations.h5")) as f:
        raw = f[f"sites/{site}/values"][:].astype(np.uint32) << 16
        x = torch.from_numpy(raw.view(np.float32))
        return x, x.shape[1] ** 0.5 / f[f"sites/{site}/norm_mean"][0]


class Batches:
    def __init__(self, x, seed):
        self.x, self.generator, self.at = x, torch.Generator().manual_seed(seed), 0
        self.order = torch.randperm(len(x), generator=self.generator)

    def __iter__(self):
        return self

    def __next__(self):
        if self.at + BATCH > len(self.order):
            rest = self.order[self.at:]
            self.order = torch.cat([rest, torch.randperm(len(self.x), generator=self.generator)])
            self.at = 0
        rows = self.order[self.at:self.at + BATCH]
        self.at += BATCH
        return self.x[rows]


def measure(encode_decode, x):
    error, active, fired, mean = 0.0, 0, torch.zeros(N, dtype=torch.long), x.double().mean(0)
    spread = ((x.double() - mean) ** 2).sum().item()
    for part in x.split(4096):
        z, y = encode_decode(part)
        error += ((part.double() - y.double()) ** 2).sum().item()
        active += (z > 0).sum().item()
        fired += (z > 0).sum(0)
    return {"fvu": error / spread, "l0": active / len(x), "dead": (fired == 0).sum().item() / N}


def dictionary_learning(variant, x, steps, seed):
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer
    kind = TopKTrainer if variant == "topk" else BatchTopKTrainer
    trainer = kind(steps=steps, activation_dim=x.shape[1], dict_size=N, k=K, layer=2, lm_name="demo", lr=LR,
                   warmup_steps=steps // 20, decay_start=int(0.8 * steps), threshold_start_step=steps // 2, seed=seed,
                   device="cpu")
    trainer.dead_feature_threshold = steps * BATCH // 10
    batches, start = Batches(x, seed), time.perf_counter()
    for step in range(steps):
        trainer.update(step, next(batches))
    seconds = time.perf_counter() - start
    ae = trainer.ae

    @torch.no_grad()
    def encode_decode(v):
        z = ae.encode(v, use_threshold=variant != "topk")
        return z, ae.decode(z)

    return seconds, encode_decode


def saelens(variant, x, steps, seed):
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer
    torch.manual_seed(seed)
    if variant == "topk":
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=N, k=K))
    else:
        sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=x.shape[1], d_sae=N, k=K))
    config = SAETrainerConfig(total_training_samples=steps * BATCH, train_batch_size_samples=BATCH, lr=LR, lr_end=0.0,
                              lr_warm_up_steps=steps // 20, lr_decay_steps=steps // 5, dead_feature_window=steps // 10)
    trainer = SAETrainer(config, sae, Batches(x, seed))
    start = time.perf_counter()
    trainer.fit()
    seconds = time.perf_counter() - start
    folder = tempfile.mkdtemp()
    sae.save_inference_model(folder)
    from sae_lens import SAE
    saved = SAE.load_from_disk(folder)

    @torch.no_grad()
    def encode_decode(v):
        z = saved.encode(v)
        return z, saved.decode(z)

    return seconds, encode_decode


def microw(variant, x, steps, seed, args, scale):
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(folder + "/activations")
        os.symlink(os.path.abspath(args.store + "/activations/quickstart"), folder + "/activations/peer")
        subprocess.run([args.microw, "train", "configs/quickstart.yaml", "--set", f"store={folder}", "--set", "name=peer",
                        "--set", f"sae.variant={variant}", "--set", f"sae.seed={seed}", "--set", f"train.tokens={steps * BATCH}"],
                       check=True, capture_output=True)
        rows = [json.loads(line) for line in open(folder + "/sae_models/peer/history.jsonl", encoding="utf-8")]
        seconds = rows[-1]["tokens"] / rows[-1]["tokens_per_second"]
        w = load_file(folder + "/sae_models/peer/sae.safetensors")
        threshold = json.load(open(folder + "/sae_models/peer/cfg.json", encoding="utf-8"))["threshold"]

    def encode_decode(v):
        a = (v / scale - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
        if variant == "topk":
            top = a.topk(K, dim=1)
            z = torch.zeros_like(a).scatter(1, top.indices, torch.relu(top.values))
        else:
            z = a * (a > threshold)
        return z, (z @ w["W_dec"] + w["b_dec"]) * scale

    return seconds, encode_decode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microw", default="build/microw")
    parser.add_argument("--store", default="store")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    raw, scale = activations(args.store, "2.resid_post")
    x, steps = raw * scale, -(-args.tokens // BATCH)
    tools = {"microw": lambda v, s: microw(v, x, steps, s, args, scale),
             "dictionary_learning": lambda v, s: dictionary_learning(v, x, steps, s),
             "SAELens": lambda v, s: saelens(v, x, steps, s)}
    print(f"{len(x)} rows of width {x.shape[1]}, {N} latents, k {K}, {steps} steps of {BATCH}, {args.rounds} rounds")
    for variant in ("topk", "batch_topk"):
        results = {name: [] for name in tools}
        for seed in range(args.rounds):
            for name, train in tools.items():
                seconds, encode_decode = train(variant, seed)
                results[name].append(dict(measure(encode_decode, x), seconds=seconds))
        for name, rounds in results.items():
            middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
            spread = max(r["fvu"] for r in rounds) - min(r["fvu"] for r in rounds)
            ours = statistics.median(r["seconds"] for r in results["microw"])
            print(f"{variant:10} {name:20} FVU {middle['fvu']:.4f} (range {spread:.4f})  L0 {middle['l0']:5.2f}  "
                  f"dead {100 * middle['dead']:5.2f} %  {middle['seconds']:6.1f} s  {middle['seconds'] / ours:5.1f} x")


if __name__ == "__main__":
    main()
