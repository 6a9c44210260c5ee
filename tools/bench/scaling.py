"""Scaling of a training step and of the forward pass with ranks and sizes: times of microw's bench programs,
interleaved; medians.

    python3 tools/bench/scaling.py [--bench build/tools/bench] [--rounds N] [--only ranks|sizes|memory|context] [--json]

ranks:   one thread each. Strong: the same batch on 1 and 2 ranks, also in 2 shards; weak: twice the batch on 2 ranks. Also the
         machine's limit: the rate of matrix products on 2 ranks over twice that on 1.
sizes:   one of n, d, k and B at a time, all threads; the slope of log time over log size, by least squares, between the
         measured sizes, and the prediction: the encoder's 2 B n d multiplications, decoder and gradients 8 B k d, and Adam's
         2 n d numbers, at the rates of the base size (a fit of these three to all times)
memory:  of one rank with a growing number of latents, whole and in 2 shards on 2 ranks, beside the estimate of the plan
context: tokens per second of the forward pass of GPT-2 small's shape, random weights (--model DIR: another model)
Needs only Python and `cmake --build build --target bench`.
"""
import argparse
import json
import math
import os
import statistics
import subprocess

BASE = {"n": 16384, "d": 512, "k": 32, "B": 2048}
GROWTH = {"n": [4096, 8192, 16384, 32768], "d": [128, 256, 512, 1024], "k": [8, 32, 128, 512], "B": [512, 1024, 2048, 4096]}


def run(command, ranks=1, threads=None):
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", PMIX_MCA_psec="native",
                       OMPI_MCA_btl_vader_single_copy_mechanism="none")
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    if ranks > 1:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] + command
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def step(a, s, ranks=1, shards=1, threads=None, rounds=3):
    shape = f"{s['d']},{s['n']},{s['k']},{s['B']}"
    return run([f"{a.bench}/bench_sae_step", "--device", "cpu", "--json", "--rounds", str(rounds), "--shards", str(shards),
                "--shape", shape], ranks, threads)


def in_turns(rounds, calls):
    """Returns the medians of each call's results over the rounds, number by number; calls are interleaved."""
    made = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            made[name].append(call())
    return {name: {key: statistics.median(r[key] for r in results) for key, value in results[0].items()
                   if isinstance(value, (int, float))} for name, results in made.items()}


def ranks(a):
    s = {"n": 24576, "d": 768, "k": 32, "B": 4096}
    half = dict(s, B=2048)
    one, two = "1 rank, batch 4096", "2 ranks, batch 4096"
    r = in_turns(a.rounds, {"1 rank, batch 2048": lambda: step(a, half, threads=1), one: lambda: step(a, s, threads=1),
                            two: lambda: step(a, s, 2, threads=1),
                            "2 ranks, 2 shards": lambda: step(a, s, 2, 2, threads=1)})
    machine = r[two]["product_tflops"] / (2 * r[one]["product_tflops"])
    strong = r[one]["step_s"] / (2 * r[two]["step_s"])
    shards = r[one]["step_s"] / (2 * r["2 ranks, 2 shards"]["step_s"])
    weak = r["1 rank, batch 2048"]["step_s"] / r[two]["step_s"]
    if not a.json:
        print("a step at d 768, n 24576, k 32; a thread a rank")
        for name, of in r.items():
            print(f"  {name:22s} {1e3 * of['step_s']:9.1f} ms, its encoder {1e3 * of['encoder_s']:9.1f} ms")
        print(f"  matrix products alone on 2 ranks: {100 * machine:.1f} % of twice one rank's: what the machine allows")
        for name, value in (("strong", strong), ("strong, in 2 shards", shards), ("weak", weak)):
            print(f"  {name:22s} {100 * value:5.1f} %, {100 * value / machine:5.1f} % of what the machine allows")
    return {"machine": machine, "strong": strong, "strong_shards": shards, "weak": weak, "steps": r}


def slope(xs, ys):
    lx, ly = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mx, my = statistics.mean(lx), statistics.mean(ly)
    return sum((x - mx) * (y - my) for x, y in zip(lx, ly)) / sum((x - mx) ** 2 for x in lx)


def parts(s):
    return (2 * s["B"] * s["n"] * s["d"], 8 * s["B"] * s["k"] * s["d"], 2 * s["n"] * s["d"])


def solve(rows, ys):
    """Returns the coefficients, at least 0, of least relative squared error, by coordinate descent."""
    w = [0.0] * len(rows[0])
    scaled = [[value / y for value in row] for row, y in zip(rows, ys)]
    for _ in range(20000):
        for j in range(len(w)):
            rest = [1 - sum(w[i] * row[i] for i in range(len(w)) if i != j) for row in scaled]
            w[j] = max(0.0, sum(row[j] * x for row, x in zip(scaled, rest)) / sum(row[j] ** 2 for row in scaled))
    return w


def sizes(a):
    calls = {}
    for name, values in GROWTH.items():
        for value in values:
            calls[(name, value)] = lambda s=dict(BASE, **{name: value}): step(a, s)
    r = in_turns(a.rounds, calls)
    shapes = [dict(BASE, **{name: value}) for name, value in calls]
    weights = solve([parts(s) for s in shapes], [r[key]["step_s"] for key in calls])
    theory = lambda s: sum(w * p for w, p in zip(weights, parts(s)))
    made = {}
    for name, values in GROWTH.items():
        times = [r[(name, value)]["step_s"] for value in values]
        said = [theory(dict(BASE, **{name: value})) for value in values]
        made[name] = {"sizes": values, "seconds": times, "slope": slope(values, times), "theory": slope(values, said)}
        if not a.json:
            print(f"  {name}: " + ", ".join(f"{v}: {1e3 * t:.1f} ms" for v, t in zip(values, times)) +
                  f"; slope {made[name]['slope']:.2f}, theory {made[name]['theory']:.2f}")
    return made


def memory(a):
    made = []
    for n in [1 << e for e in range(14, 21, 2)]:
        s = {"n": n, "d": 256, "k": 32, "B": 1024}
        whole, shard = step(a, s, rounds=1), step(a, s, 2, 2, threads=1, rounds=1)
        row = {"n": n, "weights": 4 * n * (2 * 256 + 1), "whole": whole["memory_bytes"], "plan": whole["expected_bytes"],
               "shard": shard["memory_bytes"], "shard_plan": shard["expected_bytes"]}
        made.append(row)
        if not a.json:
            print(f"  n {n:8d}: weights {row['weights'] / 1e6:7.0f} MB; one rank {row['whole'] / 1e6:7.0f} MB (plan "
                  f"{row['plan'] / 1e6:.0f}); a rank of 2 with 2 shards {row['shard'] / 1e6:7.0f} MB (plan {row['shard_plan'] / 1e6:.0f})")
    return made


def context(a):
    calls = {}
    for length in (64, 128, 256, 512, 1024):
        command = [f"{a.bench}/bench_forward", "--model", a.model, "--site", "8.resid_post", "--rounds", "2",
                   "--batch", str(2048 // length), "--context", str(length)]
        calls[length] = lambda command=command: run(command)
    r = in_turns(a.rounds, calls)
    made = {length: of["tokens_per_s"] for length, of in r.items()}
    if not a.json:
        print("  " + ", ".join(f"{length}: {rate:.0f} tokens/s" for length, rate in made.items()))
    return made


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bench", default="build/tools/bench")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", choices=["ranks", "sizes", "memory", "context"])
    p.add_argument("--model", default="")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    made = {}
    for name, what in (("ranks", ranks), ("sizes", sizes), ("memory", memory), ("context", context)):
        if (a.only and a.only != name) or (name == "context" and not a.model):
            continue
        if not a.json:
            print(name)
        made[name] = what(a)
    if a.json:
        print(json.dumps(made))


if __name__ == "__main__":
    main()
