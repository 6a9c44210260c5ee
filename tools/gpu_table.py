"""Tables of the measurements of tools/gpu_check.sh beside the predictions of docs/running/gpu-roofline.md, as Markdown.

    python3 tools/gpu_table.py RESULTS [RESULTS...] >>docs/running/gpu-results.md

Later folders of results continue earlier ones. Needs only the standard library."""
import csv
import json
import os
import re
import statistics
import subprocess
import sys


def lines(folders, name):
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, errors="replace") as f:
                yield from f.read().splitlines()


def figures(folders):
    for line in lines(folders, "figures.jsonl"):
        try:
            figure = json.loads(line)
        except ValueError:
            continue  # the last line of an interrupted call
        if isinstance(figure, dict) and "step" in figure:
            yield figure


def table(title, head, rows):
    if not rows:
        return
    print("\n### %s\n" % title)
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(str(x) for x in row) + " |")


def predicted(shape, precision):
    """Returns the milliseconds of a step at the ceilings of tools/roofline.py."""
    here = os.path.dirname(os.path.abspath(__file__))
    printed = subprocess.run([sys.executable, here + "/roofline.py", "--step", shape, "--precision", precision], capture_output=True, text=True)
    found = re.findall(r"\*\*sum\*\*.*?\*\*([0-9.]+)\*\*.*?\*\*([0-9.]+)\*\*", printed.stdout)
    return found[0] if found else ("-", "-")


def header(folders):
    text = list(lines(folders, "logs.txt"))
    cards = sorted({m.group(1).strip() for line in text for m in [re.match(r"^GPUs? +(?:0: )?(NVIDIA [^,;(]+)", line)] if m})
    clocks = [row for row in csv.reader(lines(folders, "clocks.csv"), skipinitialspace=True) if len(row) > 7 and row[0][:2] == "20"]
    if clocks:
        cards = cards or sorted({row[1] for row in clocks})
    ends = [line for line in lines(folders, "steps.txt") if line.startswith("gpu_check:")]
    print("## %s\n" % ("; ".join(cards) or "no card"))
    for end in ends:
        print("- " + end)
    if clocks:
        number = lambda text: float(re.sub(r"[^0-9.]", "", text) or "nan")
        print("- driver %s; clocks of the multiprocessors while measuring: median %.0f MHz, power %.0f W at most, %.0f degrees at most" % (
            clocks[0][2], statistics.median(number(r[4]) for r in clocks), max(number(r[6]) for r in clocks),
            max(number(r[8]) for r in clocks)))


def main():
    folders = sys.argv[1:]
    if not folders or not all(os.path.isdir(f) for f in folders):
        sys.exit("gpu_table: expected result folders of tools/gpu_check.sh")
    all_of = list(figures(folders))
    header(folders)
    status = [line.split() for line in lines(folders, "steps.txt") if line.split(" ")[0] in ("good", "FAILED", "absent", "left")]
    table("Steps", ["step", "", "seconds"], [(s[1].rstrip(":"), s[0], s[2] if s[0] in ("good", "FAILED") else "") for s in status])
    table("Ceilings", ["what", "rate", "unit"],
          [(f["what"], "%.3g" % f["rate"], f["unit"]) for f in all_of if f["step"] == "a.ceilings"])
    peak = {f["what"].split()[-1].lower(): f["rate"] for f in all_of if f["step"] == "a.ceilings" and f["what"].startswith("product")}
    rows = []
    for f in all_of:
        if f["step"].startswith("c.step"):
            shape = "%d,%d,%d,%d" % (f["d"], f["n"], f["k"], f["batch"])
            ceiling, written = predicted(shape, f["precision"])
            work = 2.0 * f["d"] * f["n"] * f["batch"]
            share = work / f["step_s"] / peak[f["precision"]] if f["precision"] in peak else float("nan")
            rows.append((shape, f["precision"], "%.2f" % (1e3 * f["step_s"]), ceiling, written, "%.2f" % (1e3 * f["encoder_s"]), "%.0f %%" % (100 * share)))
    table("A training step", ["d, n, k, batch", "precision", "ms", "predicted: ceiling", "predicted: as written", "encoder alone, ms",
                              "encoder's work / step, of the measured peak"], rows)
    rows = []
    for f in all_of:
        if f["step"].startswith("c.torch"):
            rows.append([f["step"], "; ".join("%s %s" % (k, ("%.4g" % v) if isinstance(v, float) else v) for k, v in f.items() if k != "step")])
    table("Beside torch, as it was printed", ["step", "figures"], rows)
    table("A model's pass with one site taken out", ["model", "dtype", "batch x context", "ms", "tokens/s"],
          [(f["step"].split(".")[2], f["dtype"], "%d x %d" % (f["batch"], f["context"]), "%.2f" % (1e3 * f["seconds"]), "%.4g" % f["tokens_per_s"])
           for f in all_of if f["step"].startswith("c.pass")])
    table("Beside transformers, as it was printed", ["step", "figures"],
          [(f["step"], "; ".join("%s %s" % (k, ("%.4g" % v) if isinstance(v, float) else v) for k, v in f.items() if k != "step"))
           for f in all_of if f["step"].startswith("c.transformers")])
    times = {}
    for f in all_of:
        if f["step"].startswith("e.") and "what" in f:
            times.setdefault(f["what"], {})[f["device"]] = f["seconds"]
    table("Whole experiments", ["experiment", "GPU, s", "CPU, s", "ratio"],
          [(what, t.get("cuda", "-"), t.get("cpu", "-"), "%.2f" % (t["cuda"] / t["cpu"]) if len(t) == 2 else "-") for what, t in times.items()])


main()
