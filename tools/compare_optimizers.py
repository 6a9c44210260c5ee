"""Trains the same TopK SAE in torch with several optimizers: is there one that needs no learning rate, or a better step?

    tools/peers_venv.sh DIR
    DIR/bin/python tools/schedule_data.py ROWS
    DIR/bin/python tools/compare_optimizers.py ROWS RESULTS.jsonl [--data demo stories] [--seeds 1]
    DIR/bin/python tools/compare_optimizers.py ROWS RESULTS.jsonl --table

All have microw's initialization, unit decoder rows, limit of the gradient's norm and AuxK (docs/design/step.md); only the
step differs. Each trains at every rate of its grid; `rule` takes microw's rates and Prodigy estimates its own. FVU and
dead latents are those of rows of documents that no SAE was trained on. Lines that are in RESULTS.jsonl are not repeated.
"""
import argparse
import math
import os
import statistics
import time

import torch
import torch.nn.functional as F

from compare_peers import Results, load_rows, measure
from peers import Batches, Job, Trained, top_codes
from schedule_data import WIDTHS

RATES = [1e-3, 2e-3, 4e-3, 8e-3, 16e-3]
AUX, WEAK, LIFT = 1 / 32, 0.2, 4.0


def rule(job, d):
    """microw's learning rate."""
    length = 0.0625 * (job.batch * job.k / (32 * job.n)) ** (1 / 3) * max(1, (500 / job.steps) ** 0.4)
    return min(0.2, length) / math.sqrt(d)


# ---- optimizers: parameters, job, rate -> (optimizer, whether it has microw's warm-up and decay)


def groups(p, rate, factors):
    return [{"params": [p[name]], "lr": rate * factor} for name, factor in zip(("W_enc", "W_dec", "b_enc", "b_dec"), factors)]


def by_rule(p, job, rate):
    return torch.optim.Adam(groups(p, rule(job, p["W_enc"].shape[1]), (1, 4, 6, 0.3)), betas=(0.9, 0.93), eps=6.25e-10), True


def adam(p, job, rate):
    return torch.optim.Adam(p.values(), lr=rate, eps=6.25e-10), True


def schedule_free(p, job, rate):
    from schedulefree import AdamWScheduleFree
    optimizer = AdamWScheduleFree(p.values(), lr=rate, warmup_steps=job.steps // 20)
    optimizer.train()
    return optimizer, False


def prodigy(p, job, rate):
    from prodigyopt import Prodigy
    return Prodigy(p.values(), lr=1.0, safeguard_warmup=True, use_bias_correction=True), True


class Several:
    """Several optimizers as one."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers
        self.param_groups = [group for o in optimizers for group in o.param_groups]

    def step(self):
        for o in self.optimizers:
            o.step()


def muon(p, job, rate):
    """Steps of orthogonal matrices, with the RMS of Adam's; Adam for the biases."""
    return Several(torch.optim.Muon([p["W_enc"], p["W_dec"]], lr=rate, weight_decay=0, adjust_lr_fn="match_rms_adamw"),
                   torch.optim.Adam([p["b_enc"], p["b_dec"]], lr=rate, eps=6.25e-10)), True


class ByLatent(torch.optim.Optimizer):
    """Adam with one second moment for each row: the step of a latent keeps the direction of its momentum."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, dict(lr=lr))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p.sum(-1, keepdim=True)))
                state["t"] += 1
                state["m"].lerp_(p.grad, 0.1)
                state["v"].lerp_((p.grad ** 2).mean(-1, keepdim=True), 0.05)
                size = (state["v"] / (1 - 0.95 ** state["t"])).sqrt() + 6.25e-10
                p -= group["lr"] / (1 - 0.9 ** state["t"]) * state["m"] / size


def by_latent(p, job, rate):
    return Several(ByLatent([p["W_enc"], p["W_dec"]], rate),
                   torch.optim.Adam([p["b_enc"], p["b_dec"]], lr=rate, eps=6.25e-10)), True


OPTIMIZERS = {"Adam, microw's rule": (by_rule, [None]), "Adam, one rate": (adam, RATES),
              "schedule-free AdamW": (schedule_free, RATES), "Prodigy": (prodigy, [None]), "Muon": (muon, RATES + [32e-3, 64e-3]),
              "one moment per latent": (by_latent, RATES)}

# ---- the SAE


def start(x, job, d):
    """Encoder rows that rebuild unit vectors with k of n random directions, tied; b_dec the geometric median."""
    generator = torch.Generator().manual_seed(job.seed)
    w = F.normalize(torch.randn(job.n, d, generator=generator), dim=1)
    sample = x[torch.randperm(len(x), generator=generator)[:32768]]
    median = sample.mean(0)
    for _ in range(50):
        weight = 1 / (sample - median).norm(dim=1, keepdim=True).clamp_min(1e-12)
        median = (sample * weight).sum(0) / weight.sum()
    unit = F.normalize(torch.randn(1024, d, generator=generator), dim=1)
    recon = top_codes(unit @ w.T, job.k) @ w
    scale = ((recon * unit).sum() / (recon ** 2).sum()).item()
    values = {"W_enc": scale * w, "W_dec": w.clone(), "b_enc": torch.zeros(job.n), "b_dec": median}
    return {name: value.clone().requires_grad_() for name, value in values.items()}


def auxiliary(a, z, error, silent, p, d):
    with torch.no_grad():
        values = z[z > 0]
        weak = z * (z < values.kthvalue(max(1, int(WEAK * len(values)))).values)
        target = error + weak @ p["W_dec"]
    rebuilt = top_codes(a[:, silent], min(d // 2, int(silent.sum()))) @ p["W_dec"][silent]
    return ((rebuilt - target) ** 2).sum() / ((target - target.mean(0)) ** 2).sum()


def gradients(x, p, job, since, variance, limit):
    a = (x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    z = top_codes(a, job.k)
    error = x - z @ p["W_dec"] - p["b_dec"]
    since += len(x)
    since[(z > 1e-3).any(0)] = 0
    silent = since > 50 * job.n // job.k
    loss = (error ** 2).mean() / variance
    if silent.any():
        loss = loss + AUX * auxiliary(a, z, error.detach(), silent, p, x.shape[1])
    loss.backward()
    with torch.no_grad():
        w = p["W_dec"]
        w.grad -= (w.grad * w).sum(1, keepdim=True) * w
    torch.nn.utils.clip_grad_norm_(p.values(), limit)
    return silent


def train(name, rate, job, x):
    d, steps = x.shape[1], job.steps
    p, batches = start(x, job, d), Batches(x, job)
    optimizer, scheduled = OPTIMIZERS[name][0](p, job, rate)
    rates = [group["lr"] for group in optimizer.param_groups]
    variance = ((x - x.mean(0)) ** 2).mean().item()
    since, begin = torch.zeros(job.n, dtype=torch.long), time.perf_counter()
    for step in range(steps):
        for group, full in zip(optimizer.param_groups, rates if scheduled else []):
            group["lr"] = full * min(1, (step + 1) / max(steps // 20, 1)) * min(1, (steps - step) / (steps / 5))
        silent = gradients(next(batches), p, job, since, variance, 1 / variance / d)
        optimizer.step()
        with torch.no_grad():
            p["W_dec"] /= p["W_dec"].norm(dim=1, keepdim=True)
            others = min(1.0, 1.5 * (1 - silent.double().mean().item()))
            p["b_enc"][silent] += LIFT * others ** 8 * rule(job, d) * min(1, (steps - step) / (steps / 5))
            for value in p.values():
                value.grad = None
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    w_enc, b_enc, b_dec, w_dec = (p[key].detach() for key in ("W_enc", "b_enc", "b_dec", "W_dec"))
    directions = F.normalize(w_dec, dim=1)
    return Trained(time.perf_counter() - begin, lambda v: (v - b_dec) @ w_enc.T + b_enc, None, job.k,
                   lambda z: z @ directions + b_dec, directions)


# ---- jobs and the table


def print_table(results):
    print("| data | optimizer | best rate of the grid | FVU (range of seeds) | times the rule's | dead |\n" + "| --- " * 6 + "|")
    done = [dict(one, **one["job"]) for one in results.done.values()]
    for data in dict.fromkeys(one["data"] for one in done):
        reference = statistics.mean(one["fvu"] for one in done if one["data"] == data and one["optimizer"] == next(iter(OPTIMIZERS)))
        for name in OPTIMIZERS:
            runs = [one for one in done if (one["data"], one["optimizer"]) == (data, name)]
            if not runs:
                continue
            best = min(runs, key=lambda one: one["fvu"])["rate"]
            runs = [one for one in runs if one["rate"] == best]
            fvu = [one["fvu"] for one in runs]
            print(f"| {data} | {name} | {best or 'none'} | {statistics.mean(fvu):.4f} ({max(fvu) - min(fvu):.4f}) | "
                  f"{statistics.mean(fvu) / reference:.2f} | {100 * statistics.mean(one['dead'] for one in runs):.1f} % |")


def run_data(results, folder, data, seeds):
    x, test, judge = load_rows(folder, data)
    for name, (_, rates) in OPTIMIZERS.items():
        for key in (dict(data=data, optimizer=name, rate=rate, seed=seed) for rate in rates for seed in range(seeds)):
            if results.get(key):
                continue
            job = Job("topk", 512, 8, 1_000_000, 2048, key["seed"], key["rate"])
            results.add(key, measure(train(name, key["rate"], job, x), test, judge))
            print(results.get(key), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("results")
    parser.add_argument("--data", nargs="*", default=["demo", "stories"], choices=WIDTHS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true", help="prints the table of the results and trains nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.results)
    for data in args.data if not args.table else []:
        run_data(results, args.rows, data, args.seeds)
    print_table(results)


if __name__ == "__main__":
    main()
