"""A training step of a TopK SAE in torch beside microw's (bench_sae_step), interleaved in one run; medians.

    python tools/bench/sae_step_torch.py --bench build/tools/bench/bench_sae_step [--device cpu|cuda] [--precision f32|tf32|bf16]
                                         [--shape d,n,k,B]... [--rounds N] [--json]

dense:    codes scattered into a [batch, n] matrix, decoded by a dense product, as dictionary_learning and SAELens do
sparse:   decoded from the k active rows only (embedding_bag with weights), as sparsify and OpenAI's kernels do
compiled: `dense` through torch.compile (with --compile)
Each runs encoder, selection, decoder, backward, projection of the decoder's gradient, Adam (fused), unit decoder rows.
bf16: products under autocast; weights are f32. tf32: torch.backends.cuda.matmul.allow_tf32.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F


class Step:
    def __init__(self, d, n, k, device, sparse):
        g = torch.Generator().manual_seed(0)
        w = torch.randn(n, d, generator=g) / d**0.5
        self.k, self.sparse = k, sparse
        self.w_enc = w.clone().to(device).requires_grad_()
        self.w_dec = w.clone().to(device).requires_grad_()
        self.b_enc = torch.zeros(n, device=device, requires_grad=True)
        self.b_dec = torch.zeros(d, device=device, requires_grad=True)
        parameters = [self.w_enc, self.w_dec, self.b_enc, self.b_dec]
        self.adam = torch.optim.Adam(parameters, lr=1e-4, fused=True)

    def loss(self, x):
        value, index = F.linear(x - self.b_dec, self.w_enc, self.b_enc).topk(self.k, dim=-1, sorted=False)
        value = F.relu(value).to(self.w_dec.dtype)
        if self.sparse:
            x_hat = F.embedding_bag(index, self.w_dec, per_sample_weights=value, mode="sum") + self.b_dec
        else:
            dense = torch.zeros(len(x), len(self.w_dec), device=x.device, dtype=value.dtype).scatter(1, index, value)
            x_hat = dense @ self.w_dec + self.b_dec
        return (x_hat - x).square().mean()

    def __call__(self, x, loss, autocast):
        with autocast():
            value = loss(x)
        value.backward()
        with torch.no_grad():
            self.w_dec /= self.w_dec.norm(dim=1, keepdim=True)
            self.w_dec.grad -= (self.w_dec.grad * self.w_dec).sum(1, keepdim=True) * self.w_dec
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return value.item()  # the host waits, as for logging the loss


def timed(call):
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ours(a, shape):
    command = [a.bench, "--json", "--device", a.device, "--precision", a.precision, "--rounds", "3", "--shape", shape]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(a, shape):
    d, n, k, batch = map(int, shape.split(","))
    x = torch.randn(batch, d, generator=torch.Generator().manual_seed(1)).to(a.device)
    bf16 = a.precision == "bf16"
    autocast = lambda: torch.autocast(a.device, dtype=torch.bfloat16, enabled=bf16)
    steps = {"dense": Step(d, n, k, a.device, False), "sparse": Step(d, n, k, a.device, True)}
    losses = {name: step.loss for name, step in steps.items()}
    if a.compile:
        steps["compiled"] = Step(d, n, k, a.device, False)
        losses["compiled"] = torch.compile(steps["compiled"].loss)
    times, mine = {name: [] for name in steps}, []
    for name, step in steps.items():
        step(x, losses[name], autocast)
    for _ in range(a.rounds):
        for name, step in steps.items():
            times[name].append(timed(lambda: step(x, losses[name], autocast)))
        mine.append(ours(a, shape))
    result = {"d": d, "n": n, "k": k, "batch": batch, "precision": a.precision, "device": a.device,
              "torch": torch.__version__, "threads": torch.get_num_threads(),
              "microw_s": statistics.median(m["step_s"] for m in mine),
              "encoder_s": statistics.median(m["encoder_s"] for m in mine),
              "of_peak": statistics.median(m["of_peak"] for m in mine)}
    result.update({f"torch_{name}_s": statistics.median(t) for name, t in times.items()})
    fastest = min(result[f"torch_{name}_s"] for name in steps)
    result["speed_up"] = fastest / result["microw_s"]
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bench", default="build/tools/bench/bench_sae_step")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    p.add_argument("--shape", action="append")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = a.precision == "tf32"
    for shape in a.shape or ["768,24576,32,4096"]:
        r = compare(a, shape)
        if a.json:
            print(json.dumps(r))
            continue
        print(f"d {r['d']}, n {r['n']}, k {r['k']}, batch {r['batch']}, {r['precision']} on {r['device']}")
        for name in sorted(key for key in r if key.startswith("torch_")):
            print(f"  {name[:-2].replace('_', ' '):16s} {1e3 * r[name]:10.1f} ms")
        print(f"  {'microw':16s} {1e3 * r['microw_s']:10.1f} ms, {r['microw_s'] / r['encoder_s']:.2f} times its encoder product,"
              f" {100 * r['of_peak']:.0f} % of the matrix peak")
        print(f"  {r['speed_up']:.2f} times as fast as the fastest of torch")


if __name__ == "__main__":
    main()
