"""Compares SAEs of microw, dictionary_learning, SAELens and sparsify (torch, CPU), each at its defaults and at its best
learning rate of one grid, on rows of documents that none was trained on.

    tools/peers_venv.sh DIR && cmake --build build --target bench_schedule
    DIR/bin/python tools/schedule_data.py ROWS
    DIR/bin/python tools/compare_peers.py ROWS RESULTS.jsonl [--quick] [--data demo stories] [--variants topk ...]
    DIR/bin/python tools/compare_peers.py ROWS RESULTS.jsonl --table

Every training is a line of RESULTS.jsonl; those that are there are not repeated, so a run may be interrupted. The best
rate is that with the lowest FVU of seed 0; it and the defaults are trained with all seeds. All rows are scaled to a mean
norm of sqrt(width). FVU, dead latents (active on none of the measured rows) and dense ones (active on more than a
tenth) are computed here by one code. Thresholds of BatchTopK and JumpReLU are multiplied by a factor that brings L0 on
the measured rows to k, for every tool; "own L0" is L0 before that. "CE" is what the cross-entropy of the model on such
documents rises by, in nats per token, where the reconstruction replaces the site. Stability is the mean cosine of
decoder rows of two seeds, matched one to one (Hungarian). --quick: TopK and two rates only, one data set, in less than 10 minutes.
"""
import argparse
import json
import os
import statistics

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from peers import TOOLS, Job
from schedule_data import SEPARATOR, WIDTHS, ROOT, split_documents

RATES = [1e-3, 2e-3, 4e-3, 8e-3, 16e-3]
VARIANTS = {"topk": list(TOOLS), "batch_topk": list(TOOLS)[:3], "matryoshka_batch_topk": list(TOOLS)[:3],
            "jump_relu": list(TOOLS)[:3]}


def load_rows(folder, data):
    """Returns scaled rows for training, with the path of the unscaled ones and the scale, and rows for measurement."""
    parts = [torch.from_numpy(np.fromfile(f"{folder}/{data}.{name}.f32", np.float32).reshape(-1, WIDTHS[data]))
             for name in ("train", "test")]
    scale = WIDTHS[data] ** 0.5 / parts[0].norm(dim=1).mean().item()
    train = parts[0] * scale
    train.path, train.scale = f"{folder}/{data}", scale
    return train, parts[1] * scale, Judge(data, scale)


class Judge:
    """Cross-entropy of a model on documents that no SAE was trained on, with a reconstruction in place of the site of
    schedule_data.py; the first token of a sequence keeps its row."""

    TOKENS, CONTEXT = 20_000, 256

    def __init__(self, data, scale):
        import transformers
        from tokenizers import Tokenizer
        folder = {"demo": ROOT + "/configs/demo/model", "stories": os.environ.get("MICROW_TEST_DATA", "") + "/stories260K-hf"}.get(data)
        self.model = None
        if not folder or not os.path.exists(folder):
            return
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.block = self.model.transformer.h[2] if data == "demo" else self.model.model.layers[3]
        self.scale, tokenizer = scale, Tokenizer.from_file(folder + "/tokenizer.json")
        bos = self.model.config.bos_token_id
        tokens = [tokenizer.encode(text, add_special_tokens=False).ids[:self.CONTEXT - 1] for text in self.documents(data)]
        ends = np.cumsum([len(ids) for ids in tokens])
        self.sequences = [torch.tensor([[bos, *ids]]) for ids in tokens[:int((ends < self.TOKENS).sum()) + 1] if ids]
        self.clean = self.cross_entropy(lambda x: x)

    @staticmethod
    def documents(data):
        if data == "demo":
            with open(ROOT + "/configs/demo/heldout.txt", encoding="utf-8") as f:
                return f.read().splitlines()
        with open(os.environ["MICROW_TEST_DATA"] + "/text/tinystories_2M.txt", encoding="utf-8") as f:
            return split_documents(f.read().split(SEPARATOR))[1]

    @torch.no_grad()
    def cross_entropy(self, replace):
        def hook(module, args, out):
            x = out[0] if isinstance(out, tuple) else out
            y = torch.cat([x[:, :1], replace(x[0, 1:])[None]], dim=1)
            return (y, *out[1:]) if isinstance(out, tuple) else y

        handle, total, count = self.block.register_forward_hook(hook), 0.0, 0
        for ids in self.sequences:
            log_p = self.model(ids).logits[0, :-1].double().log_softmax(-1)
            total -= log_p.gather(1, ids[0, 1:, None]).sum().item()
            count += ids.shape[1] - 1
        handle.remove()
        return total / count

    def rise(self, trained, factor):
        if not self.model:
            return float("nan")
        return self.cross_entropy(lambda x: trained.decode(trained.codes(x * self.scale, factor)) / self.scale) - self.clean


# ---- measuring


@torch.no_grad()
def mean_l0(trained, x, factor):
    return sum((trained.codes(part, factor) > 0).sum().item() for part in x.split(8192)) / len(x)


def matching_factor(trained, x):
    """The factor of the thresholds with which L0 is k; 1 for variants without thresholds."""
    if trained.theta is None:
        return 1.0
    low, high = 1e-3, 1e3
    for _ in range(24):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if mean_l0(trained, x, middle) > trained.k else (low, middle)
    return (low * high) ** 0.5


@torch.no_grad()
def measure(trained, x, judge):
    factor = matching_factor(trained, x[::4])
    error, active, fired, mean = 0.0, 0, 0, x.double().mean(0)
    spread = ((x.double() - mean) ** 2).sum().item()
    for part in x.split(8192):
        z = trained.codes(part, factor)
        error += ((part.double() - trained.decode(z).double()) ** 2).sum().item()
        active += (z > 0).sum().item()
        fired = fired + (z > 0).sum(0)
    return {"fvu": error / spread, "l0": active / len(x), "own_l0": mean_l0(trained, x, 1.0),
            "dead": (fired == 0).double().mean().item(), "dense": (fired > len(x) // 10).double().mean().item(),
            "ce": judge.rise(trained, factor), "seconds": trained.seconds}


def stability(a, b):
    a, b = (torch.nn.functional.normalize(m.double(), dim=1) for m in (a, b))
    cosine = (a @ b.T).numpy()
    return float(cosine[linear_sum_assignment(-cosine)].mean())


# ---- jobs


class Results:
    def __init__(self, path):
        self.path, self.done = path, {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                for line in f:
                    one = json.loads(line)
                    self.done[json.dumps(one["job"])] = one

    def get(self, job):
        return self.done.get(json.dumps(job))

    def add(self, job, result):
        self.done[json.dumps(job)] = dict(result, job=job)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(self.done[json.dumps(job)]) + "\n")


def run(results, rows, setting, tool, lr, seed):
    """Trains and measures once, or returns the earlier result. Decoders are kept beside the results for stability."""
    job = dict(setting, tool=tool, lr=lr, seed=seed)
    if not results.get(job):
        train, test, judge = rows[setting["data"]]
        trained = TOOLS[tool](Job(setting["variant"], setting["n"], setting["k"], setting["rows"], setting["batch"], seed, lr), train)
        result = measure(trained, test, judge)
        results.add(job, result)
        torch.save(trained.directions.clone().contiguous(), decoder_path(results, job))
        print(f"{job}: FVU {result['fvu']:.5f}, dead {100 * result['dead']:.1f} %, {result['seconds']:.1f} s", flush=True)
    return results.get(job)


def decoder_path(results, job):
    os.makedirs(results.path + ".decoders", exist_ok=True)
    return "%s.decoders/%s.pt" % (results.path, "-".join(str(v) for v in job.values()))


def best_rate(results, setting, tool, rates):
    tried = [(r["fvu"], lr) for lr in rates if (r := results.get(dict(setting, tool=tool, lr=lr, seed=0)))]
    return min(tried)[1] if tried else None


def run_setting(results, rows, setting, rates, seeds):
    for tool in VARIANTS[setting["variant"]]:
        for lr in [None, *rates]:
            run(results, rows, setting, tool, lr, 0)
        for seed in range(1, seeds):
            for lr in (None, best_rate(results, setting, tool, rates)):
                run(results, rows, setting, tool, lr, seed)


# ---- the table


def row_of(results, setting, tool, lr):
    runs, seed = [], 0
    while one := results.get(dict(setting, tool=tool, lr=lr, seed=seed)):
        runs.append(one)
        seed += 1
    middle = {key: statistics.median(r.get(key, float("nan")) for r in runs) for key in runs[0] if key != "job"}
    middle["range"] = max(r["fvu"] for r in runs) - min(r["fvu"] for r in runs)
    paths = [decoder_path(results, r["job"]) for r in runs[:2]]
    known = len(paths) == 2 and all(os.path.exists(p) for p in paths)
    middle["stability"] = stability(*(torch.load(p) for p in paths)) if known else float("nan")
    return middle


def print_table(results):
    settings = []
    for one in results.done.values():
        setting = {k: v for k, v in one["job"].items() if k not in ("tool", "lr", "seed")}
        if setting not in settings:
            settings.append(setting)
    print("| data, variant | tool | rate | FVU (range) | of the best | CE | dead | dense | own L0 | stability | s |\n" +
          "| --- " * 11 + "|")
    for s in settings:
        lines = []
        for tool in VARIANTS[s["variant"]]:
            best = best_rate(results, s, tool, RATES)
            for lr in (None, best) if best else (None,):
                if results.get(dict(s, tool=tool, lr=lr, seed=0)):
                    lines.append((tool, lr, row_of(results, s, tool, lr)))
        lowest = min(r["fvu"] for _, _, r in lines)
        for tool, lr, r in lines:
            rate = "default" if lr is None else "%g" % lr
            print(f"| {s['data']}, {s['variant']} | {tool} | {rate} | {r['fvu']:.4f} ({r['range']:.4f}) | {r['fvu'] / lowest:.2f} | {r.get('ce', float('nan')):.4f} | "
                  f"{100 * r['dead']:.1f} % | {100 * r['dense']:.1f} % | {r['own_l0']:.1f} | {r['stability']:.2f} | {r['seconds']:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("results")
    parser.add_argument("--data", nargs="*", default=["demo", "stories"], choices=WIDTHS)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rates", nargs="*", type=float, default=RATES)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every tool")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true", help="prints the table of the results and trains nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    results = Results(args.results)
    if args.quick:
        args.data, args.variants = args.data[:1], ["topk"]
    if not args.table:
        rows = {data: load_rows(args.rows, data) for data in args.data}
        for data in args.data:
            for variant in args.variants:
                setting = dict(data=data, variant=variant, n=args.n, k=args.k, rows=args.tokens, batch=args.batch)
                run_setting(results, rows, setting, [4e-3, 8e-3] if args.quick else args.rates, args.seeds)
    print_table(results)


if __name__ == "__main__":
    main()
