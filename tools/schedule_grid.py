"""Measures the learning rate that `train.lr: auto` takes against others, on a grid of data, sizes and budgets.

    cmake --build build --target bench_schedule
    tools/schedule_data.py ROWS
    tools/schedule_grid.py ROWS RESULTS.jsonl [--data demo stories synthetic] [--seeds 2] [--long]
    tools/schedule_grid.py ROWS RESULTS.jsonl --table [--figure FILE.svg]

Each training takes a multiple of the usual rate (1/4, 1/2, 1, 2) and is a line of RESULTS.jsonl; lines that are there are
not repeated. FVU and dead latents are those of rows of documents that no SAE was trained on. The table has a line per
setting: for each multiple the mean FVU over that of the best, the range over seeds, and dead latents. The figure shows the
same as curves. --long adds settings of more than a minute each.
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


# ---- table and figure


class Line:
    """The trainings of one setting, by multiple of the usual rate."""

    def __init__(self, data, setting, done):
        self.data, self.setting = data, setting
        self.runs = {t: [one for (d, job), one in done.items() if d == data and job.startswith(f"{setting} times={t} ")] for t in TIMES}
        self.fvu = {t: [one["fvu"] for one in runs] for t, runs in self.runs.items()}
        self.mean = {t: statistics.mean(fvu) for t, fvu in self.fvu.items() if fvu}

    def complete(self):
        return len(self.mean) == len(TIMES)

    def relative(self, t):
        """FVU over that of the best multiple: lowest seed, mean, highest seed."""
        best = min(self.mean.values())
        return min(self.fvu[t]) / best, self.mean[t] / best, max(self.fvu[t]) / best

    def dead(self, t):
        return statistics.mean(one["dead"] for one in self.runs[t])

    def words(self):
        words = dict(word.split("=") for word in self.setting.split())
        return (f"{self.data}{', ' + words['variant'] if 'variant' in words else ''}", words["n"], words["k"],
                f"{int(words['rows']) / 1e6:g} M", words["batch"])


def lines_of(done):
    settings = dict.fromkeys((data, job.split(" times=")[0]) for data, job in done)
    return [line for line in (Line(data, setting, done) for data, setting in settings) if line.complete()]


def print_table(lines):
    print("| data | n | k | rows | batch | " + " | ".join("x %g" % t for t in TIMES) + " | FVU at x 1 |")
    print("|---" * (len(TIMES) + 6) + "|")
    for line in lines:
        cells = []
        for t in TIMES:
            low, mean, high = line.relative(t)
            cells.append(f"{mean:.2f}±{(high - low) / 2:.2f}, {line.dead(t):.0f}")
        print("| " + " | ".join([*line.words(), *cells, f"{line.mean[1]:.4f}"]) + " |")


def panel(line, x, y, width, height):
    """One curve: FVU over that of the best, by multiple; bars span the seeds."""
    most = 1.6
    across = lambda i: x + 24 + i * (width - 48) / (len(TIMES) - 1)
    down = lambda v: y + height - 34 - (min(v, most) - 1) / (most - 1) * (height - 70)
    name, n, k, rows, batch = line.words()
    out = [f'<text x="{x + 12}" y="{y + 14}" class="name">{name}</text>',
           f'<text x="{x + 12}" y="{y + 27}">n {n}, k {k}, {rows} rows of {batch}</text>']
    for v in (1, 1.2, 1.4, 1.6):
        out.append(f'<path d="M{x + 12} {down(v):.1f}H{x + width - 12}" class="grid"/>'
                   f'<text x="{x + 8}" y="{down(v) + 3:.1f}" class="axis">{v:g}</text>')
    points = [(across(i), *map(down, line.relative(t))) for i, t in enumerate(TIMES)]
    out.append('<path d="M' + "L".join(f"{p[0]:.1f} {p[2]:.1f}" for p in points) + '" class="curve"/>')
    for (px, low, mean, high), t in zip(points, TIMES):
        out.append(f'<path d="M{px:.1f} {low:.1f}V{high:.1f}" class="bar"/><circle cx="{px:.1f}" cy="{mean:.1f}" r="{4 if t == 1 else 2.5}"/>'
                   f'<text x="{px:.1f}" y="{y + height - 18}" class="tick">× {t:g}</text>'
                   f'<text x="{px:.1f}" y="{y + height - 6}" class="dead">{line.dead(t):.0f} dead</text>')
    return out


def write_figure(lines, path):
    width, height, columns = 240, 190, 4
    style = ("text{font:10px sans-serif;fill:#444}.name{font-weight:bold}.axis{text-anchor:end}.tick,.dead{text-anchor:middle}"
             ".dead{fill:#999}.grid{stroke:#e4e4e4}.curve{stroke:#27679b;fill:none;stroke-width:1.5}.bar{stroke:#27679b}circle{fill:#27679b}")
    body = [shape for i, line in enumerate(lines)
            for shape in panel(line, 26 + i % columns * width, 8 + i // columns * height, width - 12, height)]
    size = (26 + columns * width, 16 + -(-len(lines) // columns) * height)
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}">'
                f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("results")
    parser.add_argument("--data", nargs="*", default=list(WIDTHS), choices=WIDTHS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--table", action="store_true", help="prints the table of the results and trains nothing")
    parser.add_argument("--figure", help="writes the curves to this SVG file")
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
    print_table(lines_of(done))
    if args.figure:
        write_figure(lines_of(done), args.figure)


if __name__ == "__main__":
    main()
