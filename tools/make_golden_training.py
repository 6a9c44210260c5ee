"""Trains every SAE variant in torch, in double precision, for tests/golden/training.

    python tools/make_golden_training.py --out tests/golden/training.safetensors

The formulas are written for autograd from the papers that include/microw/sae.h names, with these choices: the
residual of AuxK is detached and normalized by its variance, b_dec is not part of the auxiliary reconstruction, and
only latents that are dead after this batch take part; a run's `weak` is the fraction of the batch's codes, the
smallest, that are left out of the reconstruction from which AuxK's residual is taken, and `lift` times the learning
rate is added to the bias of dead latents in each step, less where more than a third are dead; Matryoshka takes the mean
over its reconstructions; penalties are added to the squared error summed over columns. The file has data, initial
weights and the loss curve of each run in double, and the distance from it that rounding alone causes: selections at
near ties change, and with them the curve.
"""
import argparse

import torch
from safetensors.torch import save_file

N, D, K, BATCH, STEPS, ROWS = 1100, 16, 6, 600, 200, 3000
ALPHA, DEAD_AFTER, LR, WARMUP, DECAY, CLIP = 1 / 32, 1500, 2e-3, 20, 0.25, 1.0
GROUPS, PARTS = (100, 300, 700), (7, 9)

# aux: k of AuxK; sparsity: coefficient of the penalty after a warmup of 40 steps; k_start: falls to K in 50 steps
RUNS = {
    "topk": dict(select="topk", aux=8),
    "batch_topk": dict(select="batch", aux=8),
    "multi_topk": dict(select="topk", aux=8, multi=True),
    "matryoshka_topk": dict(select="topk", aux=8, groups=GROUPS),
    "matryoshka_batch_topk": dict(select="batch", aux=8, groups=GROUPS),
    "relu": dict(select="relu", sparsity=0.2, parts=(D,)),
    "relu_unit_norm": dict(select="relu", sparsity=0.2, unit=True),
    "jump_relu": dict(select="jump", sparsity=0.02, penalty="l0", bandwidth=0.3, theta=0.2, aux=8),
    "jump_relu.tanh": dict(select="jump", sparsity=0.1, penalty="tanh", bandwidth=0.5, theta=0.3),
    "jump_relu.target": dict(select="jump", sparsity=4.0, penalty="target", bandwidth=0.3, theta=0.2),
    "gated": dict(select="gated", sparsity=0.2),
    "topk.transcoder": dict(select="topk", aux=8, transcoder=True, skip=True),
    "relu.crosscoder": dict(select="relu", sparsity=0.2, parts=PARTS),
    "topk.annealed": dict(select="topk", aux=8, k_start=40, cosine=True),
    "topk.weak": dict(select="topk", aux=8, weak=0.25, lift=3),
    "batch_topk.weak": dict(select="batch", aux=8, weak=0.25, lift=3),
    "multi_topk.weak": dict(select="topk", aux=8, multi=True, weak=0.25, lift=3),
    "matryoshka_topk.weak": dict(select="topk", aux=8, groups=GROUPS, weak=0.25, lift=3),
    "jump_relu.weak": dict(select="jump", sparsity=0.02, penalty="l0", bandwidth=0.3, theta=0.2, aux=8, weak=0.25,
                           lift=3),
}


def data(generator):
    directions = torch.nn.functional.normalize(torch.randn(200, D, generator=generator), dim=1)
    codes = torch.rand(ROWS, 200, generator=generator) * (torch.rand(ROWS, 200, generator=generator) < 0.03)
    return (codes @ directions * 3 + 0.05 * torch.randn(ROWS, D, generator=generator) + 0.5).float()


def target(x):
    """The target of the transcoder: equal in f32 and in double."""
    return x.flip(1).abs()


def learning_rate(step, run):
    warm = min(1.0, (step + 1) / WARMUP)
    left, span = STEPS - step, DECAY * STEPS
    if left >= span:
        return LR * warm
    part = left / span
    return LR * warm * (0.5 - 0.5 * torch.cos(torch.tensor(torch.pi * part, dtype=torch.float64)).item()
                        if run.get("cosine") else part)


def k_of(step, run):
    start = run.get("k_start", K)
    return start - int((start - K) * step / 50) if step < 50 else K


def top(a, k):
    best = a.topk(k, dim=1)
    return torch.zeros_like(a).scatter(1, best.indices, torch.relu(best.values))


class Jump(torch.autograd.Function):
    """z = a where a > theta, else 0; the gradient of theta uses a rectangle kernel of width eps."""

    @staticmethod
    def forward(ctx, a, theta, eps):
        ctx.save_for_backward(a, theta)
        ctx.eps = eps
        return a * (a > theta)

    @staticmethod
    def backward(ctx, g):
        a, theta = ctx.saved_tensors
        near = ((a - theta).abs() < ctx.eps / 2).to(a.dtype)
        return g * (a > theta), (-theta / ctx.eps * near * g).sum(0), None


class Count(torch.autograd.Function):
    """L0 of each row, with the kernel of Jump."""

    @staticmethod
    def forward(ctx, a, theta, eps):
        ctx.save_for_backward(a, theta)
        ctx.eps = eps
        return (a > theta).to(a.dtype).sum(1)

    @staticmethod
    def backward(ctx, g):
        a, theta = ctx.saved_tensors
        near = ((a - theta).abs() < ctx.eps / 2).to(a.dtype)
        return None, (-near / ctx.eps * g[:, None]).sum(0), None


def select(a, p, run, k):
    kind = run["select"]
    if kind == "topk":
        return top(a, k)
    if kind == "batch":  # the k * rows largest of the batch
        flat = torch.relu(a).flatten()
        best = flat.topk(k * len(a))
        return torch.zeros_like(flat).scatter(0, best.indices, best.values).view_as(a)
    if kind == "jump":
        return Jump.apply(a, p["threshold"], run["bandwidth"])
    if kind == "gated":
        return (a > 0) * torch.relu(p["r_mag"].exp() * (a - p["b_enc"]) + p["b_mag"])
    return torch.relu(a)


def reconstructions(z, a, x, p, run, k):
    """Returns pairs of weight in the loss and reconstruction; the last one is reported."""
    skip = x @ p["W_skip"].T if run.get("skip") else 0
    whole = z @ p["W_dec"] + p["b_dec"] + skip
    if run.get("multi"):
        return [(1 / 8, top(a, 4 * k) @ p["W_dec"] + p["b_dec"]), (1, whole)]
    if "groups" in run:
        ends = torch.tensor(run["groups"]).cumsum(0)
        return [(1 / len(ends), z[:, :e] @ p["W_dec"][:e] + p["b_dec"]) for e in ends]
    if run["select"] == "gated":
        return [(1, torch.relu(a) @ p["W_dec"].detach() + p["b_dec"].detach()), (1, whole)]
    return [(1, whole)]


def penalty(z, a, p, run):
    if run.get("unit"):
        return z.sum(1).mean()
    if run["select"] == "relu":
        norms = sum(w.norm(dim=1) for w in p["W_dec"].split(run["parts"], dim=1))
        return (z * norms).sum(1).mean()
    if run["select"] == "gated":
        return torch.relu(a).sum(1).mean()
    if run["penalty"] == "tanh":
        return torch.tanh(4 * z * p["W_dec"].detach().norm(dim=1)).sum(1).mean()
    l0 = Count.apply(a, p["threshold"], run["bandwidth"]).mean()
    return (l0 / K - 1) ** 2 if run["penalty"] == "target" else l0


def auxiliary(a, residual, dead, p, k):
    z = top(a.masked_fill(~dead, -torch.inf), k)
    spread = ((residual - residual.mean(0)) ** 2).sum()
    return ((z @ p["W_dec"] - residual) ** 2).sum() / spread


def weak_codes(z, share):
    """Returns z with all but the smallest codes of the batch set to 0."""
    values = z[z > 0]
    kept = len(values) - int(share * len(values))
    return z * (z < values.topk(kept).values[-1])


def forward(x, y, p, since, scale, run, step):
    k = k_of(step, run)
    a = (x if run.get("transcoder") else x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    z = select(a, p, run, k)
    since += len(x)
    since[(z > 1e-3).any(0)] = 0
    dead = since > DEAD_AFTER
    recons = reconstructions(z, a, x, p, run, k)
    loss = scale * sum(w * ((y_hat - y) ** 2).mean() for w, y_hat in recons)
    error = (y - recons[-1][1]).detach()
    aux = torch.zeros((), dtype=x.dtype)
    if "weak" in run:
        error = error + (weak_codes(z, run["weak"]) @ p["W_dec"]).detach()
    k_aux = min(run.get("aux", 0), int(dead.sum()))
    if k_aux:
        aux = auxiliary(a, error, dead, p, k_aux)
        loss = loss + ALPHA * aux
    if "sparsity" in run:
        loss = loss + scale / D * run["sparsity"] * min(1, (step + 1) / 40) * penalty(z, a, p, run)
    fvu = ((y - recons[-1][1]).detach() ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    return loss, aux, fvu, (z > 0).sum(1).double().mean(), dead


def parameters_of(start, run, dtype):
    names = ["W_enc", "b_enc", "W_dec", "b_dec"]
    p = {name: start[name].to(dtype) for name in names}
    if run["select"] == "jump":
        p["threshold"] = torch.full((N,), run["theta"]).to(dtype)
    if run["select"] == "gated":
        p["r_mag"], p["b_mag"] = torch.zeros(N, dtype=dtype), torch.zeros(N, dtype=dtype)
    if run.get("skip"):
        p["W_skip"] = torch.zeros(D, D, dtype=dtype)
    return {name: value.requires_grad_() for name, value in p.items()}


def train(start, dtype, run):
    """Returns the curve [steps, 5] (loss, auxiliary loss, FVU, L0, dead latents) and the loss scale."""
    p = parameters_of(start, run, dtype)
    x = start["x"].to(dtype)
    y = target(x) if run.get("transcoder") else x
    scale = float(1 / ((y.double() - y.double().mean(0)) ** 2).mean())
    since = torch.zeros(N, dtype=torch.int64)
    m = {name: torch.zeros_like(value) for name, value in p.items()}
    v = {name: torch.zeros_like(value) for name, value in p.items()}
    curve = []
    for step in range(STEPS):
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % ROWS
        loss, aux, fvu, l0, dead = forward(x[rows], y[rows], p, since, scale, run, step)
        grads = dict(zip(p, torch.autograd.grad(loss, list(p.values()))))
        with torch.no_grad():
            if run["select"] != "relu" or run.get("unit"):
                w = p["W_dec"]
                w /= w.norm(dim=1, keepdim=True)
                grads["W_dec"] = grads["W_dec"] - (grads["W_dec"] * w).sum(1, keepdim=True) * w
            norm = sum((g ** 2).sum() for g in grads.values()).sqrt()
            factor = min(1.0, float(CLIP * scale / D / norm))
            for name, value in p.items():
                g = grads[name] * factor
                m[name].mul_(0.9).add_(g, alpha=0.1)
                v[name].mul_(0.999).addcmul_(g, g, value=0.001)
                hat = (v[name] / (1 - 0.999 ** (step + 1))).sqrt() + 6.25e-10
                lr = learning_rate(step, run) * (D ** 0.5 if name == "threshold" else 1)
                value -= lr * (m[name] / (1 - 0.9 ** (step + 1))) / hat
            others = min(1.0, 1.5 * (1 - dead.double().mean().item()))
            p["b_enc"][dead] += learning_rate(step, run) * run.get("lift", 0) * others ** 8
            if "threshold" in p:
                p["threshold"].clamp_(min=0)
        curve.append([loss.item(), aux.item(), fvu.item(), l0.item(), float(dead.sum())])
    return torch.tensor(curve, dtype=torch.float64), scale


def noise(start, run, curve):
    """Returns the largest relative difference of loss and FVU between the curve and runs whose weights differ in the
    last place of f32: four in double, from weights changed by parts in 2^24, and one in f32."""
    worst = 0.0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        near = {k: v.double() * (1 + torch.randn(v.shape, generator=generator) * 2.0 ** -24) if k != "x" else v.double()
                for k, v in start.items()}
        other, _ = train(near, torch.float64, run) if seed else train(
            {k: v.clone() for k, v in start.items()}, torch.float32, run)
        worst = max(worst, ((other - curve).abs() / curve.abs())[:, [0, 2]].max().item())
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(5)
    x = data(generator)
    w_enc = ((torch.rand(N, D, generator=generator) * 2 - 1) / D ** 0.5).float()
    b_enc = torch.zeros(N)
    b_enc[::10] = -4.0  # dead from the start: AuxK acts from the third step on
    start = {"W_enc": w_enc, "b_enc": b_enc, "W_dec": torch.nn.functional.normalize(w_enc, dim=1), "b_dec": x.mean(0),
             "x": x}
    tensors = dict(start)
    for name, run in RUNS.items():
        curve, scale = train({k: v.clone() for k, v in start.items()}, torch.float64, run)
        tensors[f"{name}.curve"] = curve
        tensors[f"{name}.scale"] = torch.tensor([scale], dtype=torch.float64)
        tensors[f"{name}.noise"] = torch.tensor([noise(start, run, curve)], dtype=torch.float64)
        print(name, "noise %.2e" % tensors[f"{name}.noise"].item(), "end", [round(v, 4) for v in curve[-1].tolist()])
    save_file(tensors, args.out)


if __name__ == "__main__":
    main()
