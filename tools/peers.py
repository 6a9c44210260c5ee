"""Trains SAEs of other libraries, and microw's, on one matrix of rows, for compare_peers.py.

Each function of TOOLS trains one SAE and returns a Trained. `lr` None stands for the tool's own defaults: its learning
rate and schedule. With a rate, all tools warm up over a twentieth of the run and decay linearly over its last fifth.
Each tool keeps its own initialization, AuxK, optimizer and order of rows.
"""
import dataclasses
import os
import subprocess
import tempfile
import time

import torch

import check_exports

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclasses.dataclass
class Job:
    variant: str
    n: int
    k: int
    rows: int
    batch: int
    seed: int
    lr: float | None

    @property
    def steps(self):
        return -(-self.rows // self.batch)

    @property
    def groups(self):
        return [self.n // 16, self.n // 16, self.n // 8, self.n // 4, self.n // 2]


def top_codes(a, k):
    """The k largest of each row of pre-activations, if positive; else 0."""
    best = a.topk(k, dim=1)
    return torch.zeros_like(a).scatter(1, best.indices, torch.relu(best.values))


@dataclasses.dataclass
class Trained:
    seconds: float           # of training alone
    pre: object              # rows -> pre-activations [rows, n], before selection
    theta: object            # threshold, a number or [n]; None: the k largest
    k: int
    decode: object           # codes -> reconstructions
    directions: torch.Tensor  # [n, d] decoder rows

    def codes(self, x, factor=1.0):
        """Codes of rows; thresholds are multiplied by `factor`."""
        a = self.pre(x)
        if self.theta is None:
            return top_codes(a, self.k)
        return torch.relu(a) * (a > self.theta * factor)


class Batches:
    """Endless iterator over batches of rows, in another order in each pass."""

    def __init__(self, x, job):
        self.x, self.batch, self.at = x, job.batch, 0
        self.generator = torch.Generator().manual_seed(job.seed)
        self.order = torch.randperm(len(x), generator=self.generator)

    def __iter__(self):
        return self

    def __next__(self):
        if self.at + self.batch > len(self.order):
            rest = self.order[self.at:]
            self.order = torch.cat([rest, torch.randperm(len(self.x), generator=self.generator)])
            self.at = 0
        rows = self.order[self.at:self.at + self.batch]
        self.at += self.batch
        return self.x[rows]


# ---- dictionary_learning


def dictionary_trainer(job, d):
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer
    steps = job.steps
    common = dict(steps=steps, activation_dim=d, dict_size=job.n, layer=2, lm_name="demo", warmup_steps=steps // 20,
                  seed=job.seed, device="cpu")
    if job.lr is not None:
        common.update(lr=job.lr, decay_start=int(0.8 * steps))
    ranked = dict(common, k=job.k, threshold_start_step=steps // 2)
    return {
        "topk": lambda: TopKTrainer(**ranked),
        "batch_topk": lambda: BatchTopKTrainer(**ranked),
        "matryoshka_batch_topk": lambda: MatryoshkaBatchTopKTrainer(group_fractions=[g / job.n for g in job.groups], **ranked),
        "jump_relu": lambda: JumpReluTrainer(target_l0=job.k, sparsity_warmup_steps=steps // 20, **common),
    }[job.variant]()


def dictionary_learning(job, x):
    trainer = dictionary_trainer(job, x.shape[1])
    trainer.dead_feature_threshold = job.rows // 10
    batches, start = Batches(x, job), time.perf_counter()
    for step in range(job.steps):
        trainer.update(step, next(batches))
    seconds, ae = time.perf_counter() - start, trainer.ae
    if job.variant == "jump_relu":
        return Trained(seconds, lambda v: v @ ae.W_enc + ae.b_enc, ae.threshold.detach(), job.k, ae.decode, ae.W_dec.detach())
    theta = None if job.variant == "topk" else ae.threshold.item()
    if job.variant == "matryoshka_batch_topk":
        return Trained(seconds, lambda v: (v - ae.b_dec) @ ae.W_enc + ae.b_enc, theta, job.k, ae.decode, ae.W_dec.detach())
    return Trained(seconds, lambda v: ae.encoder(v - ae.b_dec), theta, job.k, ae.decode, ae.decoder.weight.detach().T)


# ---- SAELens


def saelens_sae(job, d):
    import sae_lens.saes as saes
    name, extra = {
        "topk": ("TopK", dict(k=job.k)),
        "batch_topk": ("BatchTopK", dict(k=job.k)),
        "matryoshka_batch_topk": ("MatryoshkaBatchTopK",
                                  dict(k=job.k, matryoshka_widths=torch.tensor(job.groups).cumsum(0).tolist())),
        "jump_relu": ("JumpReLU", dict(jumprelu_sparsity_loss_mode="quadratic", target_l0=job.k, l0_coefficient=d,
                                       l0_warm_up_steps=job.steps // 20)),
    }[job.variant]
    return getattr(saes, name + "TrainingSAE")(getattr(saes, name + "TrainingSAEConfig")(d_in=d, d_sae=job.n, **extra))


def saelens(job, x):
    from sae_lens import SAE
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer
    torch.manual_seed(job.seed)
    sae = saelens_sae(job, x.shape[1])
    config = SAETrainerConfig(total_training_samples=job.steps * job.batch, train_batch_size_samples=job.batch,
                              dead_feature_window=max(job.steps // 10, 1))
    config.lr_end = config.lr / 10
    if job.lr is not None:
        config.lr, config.lr_end = job.lr, 0.0
        config.lr_warm_up_steps, config.lr_decay_steps = job.steps // 20, job.steps // 5
    trainer = SAETrainer(config, sae, Batches(x, job))
    start = time.perf_counter()
    trainer.fit()
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        saved = SAE.load_from_disk(folder)
    theta = saved.threshold.detach() if hasattr(saved, "threshold") else None
    return Trained(seconds, lambda v: saved.process_sae_in(v) @ saved.W_enc + saved.b_enc, theta, job.k, saved.decode,
                   saved.W_dec.detach())


# ---- sparsify: its model and loss in a training loop written here, since its trainer reads text through a language model


def sparsify(job, x):
    from sparsify import SparseCoder, SparseCoderConfig
    torch.manual_seed(job.seed)
    sae = SparseCoder(x.shape[1], SparseCoderConfig(num_latents=job.n, k=job.k))
    batches, steps = Batches(x, job), job.steps
    sae.b_dec.data = x[batches.order[:job.batch]].mean(0)
    if job.lr is None:  # its default: signs of momentum, without a schedule
        from schedulefree import ScheduleFreeWrapper
        from sparsify.sign_sgd import SignSGD
        optimizer = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=5e-3 / (job.n / 2 ** 14) ** 0.5), momentum=0.95)
        optimizer.train()
        schedule = None
    else:
        optimizer = torch.optim.Adam(sae.parameters(), lr=job.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda s: min(1, (s + 1) / max(steps // 20, 1)) * min(1, (steps - s) / (steps / 5)))
    silent = torch.zeros(job.n, dtype=torch.long)
    start = time.perf_counter()
    for _ in range(steps):
        sae.set_decoder_norm_to_unit_norm()
        out = sae(next(batches), dead_mask=silent > job.rows // 10)
        (out.fvu + out.auxk_loss / 32).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        if schedule:
            schedule.step()
        silent += job.batch
        silent[out.latent_indices.flatten().unique()] = 0
    if job.lr is None:
        optimizer.eval()
    seconds = time.perf_counter() - start
    return Trained(seconds, lambda v: (v - sae.b_dec) @ sae.encoder.weight.T + sae.encoder.bias, None, job.k,
                   lambda z: z @ sae.W_dec + sae.b_dec, sae.W_dec.detach())


# ---- microw


def microw(job, x):
    """Trains with bench_schedule on the file of the rows, x.path, which are unscaled: training scales them itself."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"variant={job.variant}", f"n={job.n}", f"k={job.k}", f"rows={job.rows}", f"batch={job.batch}",
                 f"seed={job.seed}", f"save={folder}"]
        if job.lr is not None:
            words.append(f"lr={job.lr}")
        if job.variant == "jump_relu":
            words.append(f"l0_target={job.k}")
        said = subprocess.run([os.path.join(ROOT, "build/tools/bench/bench_schedule"), str(x.shape[1]), x.path + ".train.f32",
                               x.path + ".test.f32"], input=" ".join(words) + "\n", check=True, capture_output=True, text=True)
        w, c = check_exports.load_file(folder + "/sae.safetensors"), check_exports.config(folder)
    seconds = float(said.stdout.rsplit('"seconds": ', 1)[1].split("}")[0])
    theta = w["threshold"] if job.variant == "jump_relu" else c.get("threshold")
    scale = x.scale  # codes of the saved SAE are those of unscaled rows
    return Trained(seconds, lambda v: (v / scale - w["b_dec"]) @ w["W_enc"].T + w["b_enc"], theta, job.k,
                   lambda z: (z @ w["W_dec"] + w["b_dec"]) * scale, w["W_dec"])


TOOLS = {"microw": microw, "dictionary_learning": dictionary_learning, "SAELens": saelens, "sparsify": sparsify}
