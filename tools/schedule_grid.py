"""Measures the learning rate that `train.lr: auto` takes against others, on a grid of data, sizes and budgets.

    cmake --build build --target bench_schedule
    tools/schedule_data.py ROWS
    tools/schedule_grid.py ROWS RESULTS.jsonl [--data demo stories synthetic] [--seeds 2] [--long]
    tools/schedule_grid.py ROWS RESULTS.jsonl --table

Each training takes a multiple of the usual rate (1/4, 1/2, 1, 2) and is a line of RESULTS.jsonl; lines that are there are
not repeated. FVU and dead latents are those of rows of documents that no SAE was trained on. The table has a line per
setting: for each multiple the mean FVU over that of the best, the range over seeds, and dead latents. --long adds
settings of more than a minute each.
"""
import argparse
import json
import os
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor

from schedule_data import WIDTHS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "build/tools/bench/bench_schedule")
TIMES = (0.25, 0.5, 1, 2)
# (n, k, rows, batch), other keys
SETTINGS = [((512, 8, 200_000, 2048), ""), ((512, 8, 1_000_000, 2048), ""), ((512, 8, 1_000_000, 256), ""),
            ((2048, 32, 600_000, 2048), ""), ((512, 8, 1_000_000, 2048), "variant=batch_topk"),
            ((512, 8, 1_000_000, 2048), "variant=jump_relu l0_target=8")]
LONG = [((512, 8, 4_000_000, 2048), ""), ((4096, 16, 1_000_000, 2048), ""), ((512, 8, 20_000_000, 4096), ""),
        ((16384, 64, 1_000_000, 2048), "")]
WIDE = [((2048, 32, 400_000, 2048), "")]  # synthetic


def jobs_of(data, setting, seeds):
    (n, k, rows, batch), keys = setting
    return [f"n={n} k={k} rows={rows} batch={batch} {keys} times={t} seed={s}".replace("  ", " ")
            for s in range(seeds) for t in TIMES]


def run(rows, data, jobs):
    said = subprocess.run([PROGRAM, str(WIDTHS[data]), f"{rows}/{data}.train.f32", f"{rows}/{data}.test.f32"], check=True,
                          input="\n".join(jobs) + "\n", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env=dict(os.environ, OMP_NUM_THREADS="1"))
    return [dict(json.loads(line), data=data) for line in said.stdout.splitlines()]


def load(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return {(one["data"], one["job"]): one for one in map(json.loads, f)}


def print_table(done):
    print("| data | setting | " + " | ".join("x %g" % t for t in TIMES) + " | FVU at x 1 |")
    print("| --- " * (len(TIMES) + 3) + "|")
    settings = []
    for data, job in done:
        if (data, job.split(" times=")[0]) not in settings:
            settings.append((data, job.split(" times=")[0]))
    for data, setting in settings:
        by_times = {t: [one for (d, job), one in done.items() if d == data and job.startswith(f"{setting} times={t} ")] for t in TIMES}
        mean = {t: statistics.mean(one["fvu"] for one in runs) for t, runs in by_times.items() if runs}
        cells = []
        for t in TIMES:
            spread = max(one["fvu"] for one in by_times[t]) - min(one["fvu"] for one in by_times[t])
            dead = statistics.mean(one["dead"] for one in by_times[t])
            cells.append(f"{mean[t] / min(mean.values()):.2f} (±{spread / 2 / mean[t]:.2f}), {dead:.0f}")
        print(f"| {data} | {setting} | " + " | ".join(cells) + f" | {mean[1]:.4f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("results")
    parser.add_argument("--data", nargs="*", default=list(WIDTHS), choices=WIDTHS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--table", action="store_true", help="prints the table of the results and trains nothing")
    args = parser.parse_args()
    done, wanted = load(args.results), []
    for data in args.data if not args.table else []:
        for setting in WIDE if data == "synthetic" else SETTINGS + (LONG if args.long else []):
            jobs = [job for job in jobs_of(data, setting, args.seeds) if (data, job) not in done]
            wanted += [(args.rows, data, jobs)] if jobs else []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for ended in pool.map(lambda w: run(*w), wanted):
            with open(args.results, "a", encoding="utf-8") as f:
                f.writelines(json.dumps(one) + "\n" for one in ended)
            done.update({(one["data"], one["job"]): one for one in ended})
    print_table(done)


if __name__ == "__main__":
    main()
