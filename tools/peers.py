"""Trains SAEs of other libraries, and microw's, on one matrix of activations, for compare_peers.py.

Each function of TOOLS trains a variant, and returns the seconds of training alone and a function from rows to (latents,
reconstructions). `amount` is the coefficient of the penalty for variants that have one, else None.
"""
import json
import os
import subprocess
import tempfile
import time

import torch
from check_exports import reference

BATCH, LR, K, N = 2048, 1e-3, 16, 1024
GROUPS = [N // 16, N // 16, N // 8, N // 4, N // 2]


class Batches:
    """Endless iterator over batches of rows, in another order in each pass."""

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


# ---- dictionary_learning


def dictionary_trainer(variant, d, steps, seed, amount):
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate
    from dictionary_learning.trainers.top_k import TopKTrainer
    common = dict(steps=steps, activation_dim=d, dict_size=N, layer=2, lm_name="demo", lr=LR, warmup_steps=steps // 20,
                  decay_start=int(0.8 * steps), seed=seed, device="cpu")
    ranked = dict(common, k=K, threshold_start_step=steps // 2)
    warm = dict(common, sparsity_warmup_steps=steps // 20)
    return {
        "topk": lambda: TopKTrainer(**ranked),
        "batch_topk": lambda: BatchTopKTrainer(**ranked),
        "matryoshka_batch_topk": lambda: MatryoshkaBatchTopKTrainer(group_fractions=[g / N for g in GROUPS], **ranked),
        "relu": lambda: StandardTrainerAprilUpdate(l1_penalty=amount, **warm),
        "jump_relu": lambda: JumpReluTrainer(target_l0=K, bandwidth=0.05, sparsity_penalty=d, **warm),
        "gated": lambda: GatedSAETrainer(l1_penalty=amount, **warm),
    }[variant]()


def dictionary_learning(variant, x, steps, seed, amount):
    trainer = dictionary_trainer(variant, x.shape[1], steps, seed, amount)
    trainer.dead_feature_threshold = steps * BATCH // 10
    batches, start = Batches(x, seed), time.perf_counter()
    for step in range(steps):
        trainer.update(step, next(batches))
    seconds, ae = time.perf_counter() - start, trainer.ae
    batched = "batch_topk" in variant

    def encode_decode(v):
        z = ae.encode(v, use_threshold=True) if batched else ae.encode(v)
        return z, ae.decode(z)

    return seconds, encode_decode


# ---- SAELens


def saelens_sae(variant, d, amount, steps):
    import sae_lens.saes as saes
    warm = steps // 20
    name, extra = {
        "topk": ("TopK", dict(k=K)),
        "batch_topk": ("BatchTopK", dict(k=K)),
        "matryoshka_batch_topk": ("MatryoshkaBatchTopK", dict(k=K, matryoshka_widths=torch.tensor(GROUPS).cumsum(0).tolist())),
        "relu": ("Standard", dict(l1_coefficient=amount, l1_warm_up_steps=warm)),
        "jump_relu": ("JumpReLU", dict(jumprelu_sparsity_loss_mode="quadratic", target_l0=K, l0_coefficient=d, l0_warm_up_steps=warm)),
        "gated": ("Gated", dict(l1_coefficient=amount, l1_warm_up_steps=warm)),
    }[variant]
    return getattr(saes, name + "TrainingSAE")(getattr(saes, name + "TrainingSAEConfig")(d_in=d, d_sae=N, **extra))


def saelens(variant, x, steps, seed, amount):
    from sae_lens import SAE
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer
    torch.manual_seed(seed)
    sae = saelens_sae(variant, x.shape[1], amount, steps)
    config = SAETrainerConfig(total_training_samples=steps * BATCH, train_batch_size_samples=BATCH, lr=LR, lr_end=0.0,
                              lr_warm_up_steps=steps // 20, lr_decay_steps=steps // 5, dead_feature_window=steps // 10)
    trainer = SAETrainer(config, sae, Batches(x, seed))
    start = time.perf_counter()
    trainer.fit()
    seconds = time.perf_counter() - start
    folder = tempfile.mkdtemp()
    sae.save_inference_model(folder)
    saved = SAE.load_from_disk(folder)

    def encode_decode(v):
        z = saved.encode(v)
        return z, saved.decode(z)

    return seconds, encode_decode


# ---- sparsify: its model and loss in a training loop written here, since its trainer reads text through a language model


def sparsify(variant, x, steps, seed, amount):
    from sparsify import SparseCoder, SparseCoderConfig
    torch.manual_seed(seed)
    sae = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=N, k=K, multi_topk=variant == "multi_topk"))
    batches = Batches(x, seed)
    sae.b_dec.data = x[batches.order[:BATCH]].mean(0)
    optimizer = torch.optim.Adam(sae.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / (steps // 20)) * min(1, (steps - s) / (steps / 5)))
    silent = torch.zeros(N, dtype=torch.long)
    start = time.perf_counter()
    for _ in range(steps):
        sae.set_decoder_norm_to_unit_norm()
        out = sae(next(batches), dead_mask=silent > steps * BATCH // 10)
        (out.fvu + out.auxk_loss / 32 + out.multi_topk_fvu / 8).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        silent += BATCH
        silent[out.latent_indices.flatten().unique()] = 0
    seconds = time.perf_counter() - start

    def encode_decode(v):
        e = sae.encode(v)
        z = torch.zeros(len(v), N).scatter(1, e.top_indices, e.top_acts)
        return z, sae.decode(e.top_acts, e.top_indices)

    return seconds, encode_decode


# ---- microw


def microw_runner(program, store, scale, extra=()):
    def microw(variant, x, steps, seed, amount):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(folder + "/activations")
            os.symlink(os.path.abspath(store + "/activations/quickstart"), folder + "/activations/peer")
            sets = [f"store={folder}", "name=peer", f"sae.variant={variant}", f"sae.seed={seed}", f"train.order={seed}",
                    f"train.tokens={steps * BATCH}", *extra]
            if variant == "jump_relu":
                sets.append(f"train.l0_target={K}")
            elif amount is not None:
                sets.append(f"train.sparsity={amount}")
            subprocess.run([program, "train", "configs/quickstart.yaml", *(part for s in sets for part in ("--set", s))],
                           check=True, capture_output=True)
            kept = tempfile.mkdtemp()
            for name in ("sae.safetensors", "cfg.json", "history.jsonl"):
                os.replace(f"{folder}/sae_models/peer/{name}", f"{kept}/{name}")
        rows = [json.loads(line) for line in open(kept + "/history.jsonl", encoding="utf-8")]

        def encode_decode(v):  # the saved SAE takes unscaled activations
            z, x_hat = reference(kept, v / scale)
            return z, x_hat * scale

        return rows[-1]["tokens"] / rows[-1]["tokens_per_second"], encode_decode

    return microw
