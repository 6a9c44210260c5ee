"""Reference training runs of TopK and BatchTopK SAEs with AuxK in torch, in double precision, for tests/golden/training.

    python tools/make_golden_training.py --out tests/golden/training.safetensors

The formulas are written out for autograd from Gao et al. 2024 (arXiv 2406.04093), with the choices include/microw/sae.h
states: the auxiliary residual is detached and normalized by its variance, b_dec stays out of the auxiliary
reconstruction, only latents dead after this batch's firing take part. Data, initial weights and the loss curve
in double of each are stored, and how far rounding alone takes a run from it: selections at near ties change, and with them
the curve.
"""
import argparse

import torch
from safetensors.torch import save_file

N, D, K, BATCH, STEPS, ROWS = 1100, 16, 6, 600, 200, 3000
AUX_K, ALPHA, DEAD_AFTER, LR, WARMUP, DECAY, CLIP = 8, 1 / 32, 1500, 2e-3, 20, 0.25, 1.0


def data(generator):
    directions = torch.nn.functional.normalize(torch.randn(200, D, generator=generator), dim=1)
    codes = torch.rand(ROWS, 200, generator=generator) * (torch.rand(ROWS, 200, generator=generator) < 0.03)
    return (codes @ directions * 3 + 0.05 * torch.randn(ROWS, D, generator=generator) + 0.5).float()


def learning_rate(step):
    warm = min(1.0, (step + 1) / WARMUP)
    left, span = STEPS - step, DECAY * STEPS
    return LR * warm * (left / span if left < span else 1.0)


def select(a, variant):
    """TopK: the K largest of a row. BatchTopK (arXiv 2412.06410): the K * rows largest of the batch."""
    if variant == "topk":
        top = a.topk(K, dim=1)
        return torch.zeros_like(a).scatter(1, top.indices, torch.relu(top.values))
    flat = torch.relu(a).flatten()
    top = flat.topk(K * len(a))
    return torch.zeros_like(flat).scatter(0, top.indices, top.values).view_as(a)


def forward(x, w_enc, b_enc, w_dec, b_dec, since, scale, variant):
    a = (x - b_dec) @ w_enc.T + b_enc
    z = select(a, variant)
    x_hat = z @ w_dec + b_dec
    since += len(x)
    since[(z > 1e-3).any(0)] = 0
    dead = since > DEAD_AFTER
    mse = ((x_hat - x) ** 2).mean()
    aux = torch.zeros((), dtype=x.dtype)
    k_aux = min(AUX_K, int(dead.sum()))
    if k_aux:
        masked = a.masked_fill(~dead, -torch.inf)
        top = masked.topk(k_aux, dim=1)
        z_aux = torch.zeros_like(a).scatter(1, top.indices, torch.relu(top.values))
        residual = (x - x_hat).detach()
        spread = ((residual - residual.mean(0)) ** 2).sum()
        aux = ((z_aux @ w_dec - residual) ** 2).sum() / spread
    fvu = ((x_hat - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    return scale * mse + ALPHA * aux, aux, fvu, (z > 0).sum(1).double().mean(), int(dead.sum())


def train(start, dtype, variant):
    """Loss curve [steps, 5]: loss, auxiliary loss, FVU, L0, dead latents; and the loss scale."""
    parameters = [start[name].to(dtype).requires_grad_() for name in ("W_enc", "b_enc", "W_dec", "b_dec")]
    x = start["x"].to(dtype)
    scale = float(1 / ((x.double() - x.double().mean(0)) ** 2).mean())
    since = torch.zeros(N, dtype=torch.int64)
    m = [torch.zeros_like(p) for p in parameters]
    v = [torch.zeros_like(p) for p in parameters]
    curve = []
    for step in range(STEPS):
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % ROWS
        loss, aux, fvu, l0, dead = forward(x[rows], *parameters, since, scale, variant)
        grads = list(torch.autograd.grad(loss, parameters))
        with torch.no_grad():
            w = parameters[2]
            w /= w.norm(dim=1, keepdim=True)
            grads[2] -= (grads[2] * w).sum(1, keepdim=True) * w
            norm = sum((g ** 2).sum() for g in grads).sqrt()
            factor = min(1.0, float(CLIP * scale / D / norm))
            for p, g, mi, vi in zip(parameters, [g * factor for g in grads], m, v):
                mi.mul_(0.9).add_(g, alpha=0.1)
                vi.mul_(0.999).addcmul_(g, g, value=0.001)
                hat = (vi / (1 - 0.999 ** (step + 1))).sqrt() + 6.25e-10
                p -= learning_rate(step) * (mi / (1 - 0.9 ** (step + 1))) / hat
        curve.append([loss.item(), aux.item(), fvu.item(), l0.item(), float(dead)])
    return torch.tensor(curve, dtype=torch.float64), scale


def noise(start, variant, curve):
    """Largest relative difference of loss and FVU that changes of the weights in the last place of f32 make: runs in
    double from weights changed by parts in 2^24, and one in f32."""
    worst = 0.0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        near = {k: v.double() * (1 + torch.randn(v.shape, generator=generator) * 2.0 ** -24) if k != "x" else v.double()
                for k, v in start.items()}
        other, _ = train(near, torch.float64, variant) if seed else train(
            {k: v.clone() for k, v in start.items()}, torch.float32, variant)
        worst = max(worst, ((other - curve).abs() / curve.abs())[:, [0, 2]].max().item())
    print(variant, "noise", worst)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(5)
    x = data(generator)
    w_enc = ((torch.rand(N, D, generator=generator) * 2 - 1) / D ** 0.5).float()
    b_enc = torch.zeros(N)
    b_enc[::10] = -4.0  # dead from the start: AuxK has work from the third step on
    start = {"W_enc": w_enc, "b_enc": b_enc, "W_dec": torch.nn.functional.normalize(w_enc, dim=1), "b_dec": x.mean(0),
             "x": x}
    tensors = dict(start)
    for variant in ("topk", "batch_topk"):
        curve, scale = train({k: v.clone() for k, v in start.items()}, torch.float64, variant)
        tensors[f"{variant}.curve"] = curve
        tensors[f"{variant}.noise"] = torch.tensor([noise(start, variant, curve)], dtype=torch.float64)
    tensors["scale"] = torch.tensor([scale], dtype=torch.float64)
    save_file(tensors, args.out)


if __name__ == "__main__":
    main()
