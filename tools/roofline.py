#!/usr/bin/env python3
"""Predicts the measurements of tools/gpu_check.sh on an H100, from the bytes and operations of each kernel of a step or
pass.

    tools/roofline.py                              # prints docs/running/gpu-roofline.md
    tools/roofline.py --write                      # writes docs/running/gpu-roofline.md
    tools/roofline.py --step 768,24576,32,8192 --precision bf16 [--memory 3.0e12] [--chunk-rows 1024] ...
    tools/roofline.py --check build-emulated/tools/bench [--models tests/golden/models]

--check runs the benches on small shapes under the CUDA emulator of the tests, which logs all GPU calls, and compares
launches, grids, products and copies of one step and one pass with those counted here; exit code 1 if any differs.
"""
import argparse
import collections
import json
import math
import os
import subprocess
import sys
import tempfile

import kernel_table

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs/running/gpu-roofline.md")
STEPS = [(768, 24576, 32, 8192), (2304, 65536, 64, 8192), (4096, 131072, 64, 4096)]
PRECISIONS = ["f32", "tf32", "bf16"]

MACHINE = {  # an H100 SXM; rates per second
    "memory": (3.0e12, "bytes of device memory, achievable"),
    "bf16": (790e12, "operations in bf16, dense, achievable: 0.8 of the data sheet's 989"),
    "tf32": (395e12, "the same in TF32: 0.8 of 494"),
    "f32": (60e12, "the same in f32, of the data sheet's 67"),
    "pcie": (50e9, "bytes over PCIe, pinned host memory"),
    "launch": (3e-6, "seconds that a launch takes at least"),
    # used only in the column `as written`
    "pageable": (8e9, "bytes over PCIe, pageable host memory; assumed"),
    "wait": (10e-6, "seconds lost where the host waits for the device and then asks for more; assumed"),
    "l2": (5.5e12, "bytes of the L2 cache; assumed"),
    "latency": (0.6e-6, "seconds until a load from device memory is there, under load; assumed"),
    "sms": (132, "multiprocessors"),
    "clock": (1.755e9, "clock under load; assumed"),
    "cache": (50e6, "bytes of L2"),
}

# Bytes that a thread has in flight, from the loops of the sm_90 code (LDG between uses); default for all others.
UNDER_WAY = {"subtract": 4, "combine": 16, "sum_tiles": 64, "sum_squares": 16, "sum_rows": 128, "weigh_block": 64, "adam": 64,
             "adam_of_unit_rows": 12, "decode<float4>": 64, "dots<float4>": 256, "add_spans<float4>": 64, "top_few": 64, "select_screened<float4>": 64, "round_rows": 4,
             "round_bf16": 4, "layer_norm": 4, "rms_norm": 4, "activate": 16, "add": 32, "gather": 8, "rotary": 12, "count_rows": 4}
LDS_OF_FMA = 1.84  # loads from shared memory per multiplication in attend_tile<8, 2>: 27 for 16 in q k, 64 for 32 in p v

ROW_TILE, LATENT_BLOCK, SPAN, DEVICE_FLOATS = 128, 512, 128, 1 << 23


def ceil(a, b):
    return -(-a // b)


def row_threads(width):
    return max(32, min(256, ceil(width, 32) * 32))


def each_blocks(count):
    return min(ceil(count, 256), 65535)


class Count:
    """The kernels of a step or a pass. Bytes are of device memory unless stated otherwise."""

    def __init__(self, machine):
        self.m = machine
        self.rows = {}
        self.log = collections.Counter()
        self.registers = {n: (int(t["registers"].split(" / ")[1]), int(t["shared"].split(" / ")[1]))
                          for n, t in kernel_table.read_page()[1].items()}

    def line(self, text, n=1):
        self.log[text] += n

    def add(self, name, calls, each, by, written, limit, flops=0, bytes_=0):
        row = self.rows.setdefault(name, {"calls": 0, "flops": 0, "bytes": 0, "time": 0, "written": 0, "by": {}, "limit": {}})
        row["calls"] += calls
        row["flops"] += calls * flops
        row["bytes"] += calls * bytes_
        row["time"] += calls * each
        row["written"] += calls * written
        row["by"][by] = row["by"].get(by, 0) + calls * each
        row["limit"][limit] = row["limit"].get(limit, 0) + calls * written

    def under_way(self, kernel, blocks, threads, shared):
        registers, static = self.registers[kernel]
        resident = kernel_table.occupancy(registers, threads, static + shared)[0] * threads * self.m["sms"]
        return min(blocks * threads, resident) * UNDER_WAY.get(kernel, 16) / self.m["latency"]

    def kernel(self, name, blocks, threads, bytes_, flops=0, near=0, calls=1, shared=0, lds=0, logged=None, row=None):
        """Adds a kernel. `near`: bytes requested from L2; `lds`: loads of a warp from shared memory."""
        self.line("launch %s blocks %d threads %d shared %d" % (logged or name, blocks, threads, shared), calls)
        ceilings = {"memory": bytes_ / self.m["memory"], "f32": flops / self.m["f32"], "launch": self.m["launch"]}
        by = max(ceilings, key=ceilings.get)
        limits = dict(ceilings)
        limits["L2"] = near / self.m["l2"]
        limits["loads in flight"] = max(bytes_, near) / self.under_way(name, blocks, threads, shared)
        limits["shared memory"] = lds / self.m["sms"] / self.m["clock"]
        limit = max(limits, key=limits.get)
        self.add(row or name, calls, ceilings[by], by, limits[limit], limit, flops, bytes_)

    def product(self, name, m, n, k, precision, bytes_, calls=1):
        self.line("product m %d n %d k %d type %s" % (m, n, k, precision), calls)
        flops = 2 * m * n * k
        ceilings = {"memory": bytes_ / self.m["memory"], precision: flops / self.m[precision], "launch": self.m["launch"]}
        by = max(ceilings, key=ceilings.get)
        tiles = ceil(m, 128) * ceil(n, 256)
        waves = ceil(tiles, self.m["sms"]) * self.m["sms"] / tiles
        limits = dict(ceilings)
        limits["whole waves of tiles"] = ceilings[precision] * waves
        limit = max(limits, key=limits.get)
        self.add(name, calls, ceilings[by], by, limits[limit], limit, flops, bytes_)

    def fill(self, bytes_, calls=1):
        self.line("fill bytes %d" % bytes_, calls)
        self.simple("fill with zeros", calls, bytes_)

    def across(self, bytes_, calls=1):
        self.line("copy across bytes %d" % bytes_, calls)
        self.simple("copies on the device", calls, 2 * bytes_)

    def simple(self, name, calls, bytes_):
        t = max(bytes_ / self.m["memory"], self.m["launch"])
        by = "launch" if t == self.m["launch"] else "memory"
        self.add(name, calls, t, by, t, by, 0, bytes_)

    def up(self, bytes_, calls=1):
        self.line("copy up bytes %d" % bytes_, calls)
        t = max(bytes_ / self.m["pcie"], self.m["launch"])
        self.add("copies to the device", calls, t, "launch" if t == self.m["launch"] else "PCIe", t, "PCIe")

    def down(self, bytes_, calls=1, row="copies to the host, and waits", pinned=False):
        """Adds a copy to the host, which waits for it."""
        self.line("copy down bytes %d%s" % (bytes_, "" if pinned else " pageable"), calls)
        t = max(bytes_ / self.m["pcie"], self.m["launch"])
        written = max(bytes_ / self.m["pcie" if pinned else "pageable"], self.m["launch"]) + self.m["wait"]
        self.add(row, calls, t, "launch" if t == self.m["launch"] else "PCIe", written, "PCIe" if bytes_ > 1 << 20 else "wait")

    def gathered(self, table, asked):
        """Returns the bytes of memory read for rows of a table in random order: the part that fits into L2 is read
        once."""
        if asked <= table or table <= self.m["cache"]:
            return min(asked, table)
        return table + (asked - table) * (1 - self.m["cache"] / table)

    def total(self, what="time"):
        return sum(r[what] for r in self.rows.values())


# ---- a training step ------------------------------------------------------------------------------------------------

def chunk_rows(n):
    floats = DEVICE_FLOATS if DEVICE_FLOATS // n >= 256 else min(512 * n, 1 << 28)
    return max(ROW_TILE, min(1024, floats // n // ROW_TILE * ROW_TILE))


CANDIDATES = 2.2  # dot products of a screen for each latent selected, as on a CPU with the bench's random rows


def encoder(c, d, n, rows, precision, chunk, k=0):
    """Adds the products of a batch by chunks of rows, and the k largest of each row if k is given: in f32 by a screen in
    bf16."""
    screened = bool(k) and precision == "f32"
    if screened:
        precision = "bf16"
        c.fill(8)
    item = 2 if precision == "bf16" else 4
    for at in range(0, rows, chunk):
        m = min(chunk, rows - at)
        pre = 4 * m * n
        stays = pre <= 0.7 * c.m["cache"]  # in L2 until the k largest are found
        weights = item * n * d
        if at and weights + pre <= c.m["cache"]:
            weights = 0
        if precision == "bf16":
            c.kernel("round_rows", m, row_threads(d), 6 * m * d)
        c.product("encoder product", m, n, d, precision, weights + item * m * d + (0 if stays else pre))
        if screened:
            passes, examined = 2, m * k * CANDIDATES
            c.kernel("measure_rows", m, row_threads(d), 4 * m * d)
            c.kernel("select_screened<float4>", m, 256, (0 if stays else passes * pre) + c.gathered(4 * n * d, 4 * examined * d) + 8 * m * k,
                     flops=2 * examined * d, near=passes * pre + 4 * examined * d)
        elif k:
            kernel = "top_few" if k <= 128 and n >= 256 else "top_many"
            passes = 2 if kernel == "top_few" else 5
            c.kernel(kernel, m, 256, (0 if stays else passes * pre) + 8 * m * k, near=passes * pre)
    if screened:
        c.down(8)


def step(c, d, n, k, batch, precision, chunk=None):
    """Adds mw_trainer_step_on_device of a TopK SAE on one rank, as in bench_sae_step: no AuxK, no clipping, no means,
    unit decoder rows."""
    entries, tiles, blocks, row = batch * k, ceil(batch, ROW_TILE), ceil(n, LATENT_BLOCK), 4 * d
    touched = n * (1 - math.exp(-entries / n))  # latents with an entry, if all are equally likely
    threads, starts = row_threads(d // 4), 8 * (batch + 1)
    # src/sae/step/forward.c: step_forward
    c.kernel("subtract", batch, row_threads(d), 2 * batch * row)
    c.fill(4 * entries, 2)
    encoder(c, d, n, batch, precision, min(chunk or chunk_rows(n), batch), k)
    c.kernel("count_rows", batch, row_threads(k), 4 * entries)
    c.down(8 * batch)
    c.up(8 * batch)
    c.kernel("write_rows", batch, row_threads(k), 16 * entries)
    c.up(starts)
    w = c.gathered(touched * row, entries * row)
    c.kernel("decode<float4>", batch, threads, w + batch * row + 8 * entries, flops=2 * entries * d, near=entries * row)
    c.kernel("combine", each_blocks(batch * d), 256, 3 * batch * row)
    c.kernel("sum_tiles", tiles, row_threads(d), batch * row, calls=2)
    c.kernel("sum_squares", tiles, 256, batch * row)
    c.kernel("sum_rows", each_blocks(d + 1), 256, 8 * tiles * (d + 1), calls=2)
    c.kernel("sum_rows", 1, 256, 8 * tiles)
    c.down(8 * (2 * (d + 1) + 1))
    c.across(4 * entries, 2)
    c.kernel("grow_older", each_blocks(n), 256, 16 * n)
    c.kernel("fire", each_blocks(entries), 256, 8 * entries + 8 * touched)
    c.kernel("flag_silent", each_blocks(n), 256, 12 * n)
    c.line("scan items %d" % n)
    c.simple("cub: scan", 2, 4 * n)
    c.kernel("write_silent", each_blocks(n), 256, 12 * n)
    c.down(4)
    c.kernel("combine", each_blocks(batch * d), 256, 2 * batch * row)
    c.up(starts)
    c.kernel("dots<float4>", batch, row_threads(32 * k), w + batch * row + 8 * entries, flops=2 * entries * d, near=2 * entries * row)
    # src/sae/step/gradients.c: step_gradients
    bits = n.bit_length()
    spans = ceil(entries + entries // 4 + 64, SPAN)
    for _ in ("decoder", "encoder"):
        c.up(starts)
        c.kernel("expand", batch, 64, 24 * entries)
        c.line("sort items %d bits %d" % (entries, bits))
        c.simple("cub: sort", 2 + ceil(bits, 8), 16 * entries)
        c.kernel("find_starts", each_blocks(entries + 1), 256, 4 * entries + 8 * n)
        c.kernel("place", each_blocks(entries), 256, 20 * entries)
        c.fill(n * row)
        x = c.gathered(batch * row, entries * row)
        c.kernel("add_spans<float4>", spans, threads, x + touched * row + 8 * entries + 8 * n, flops=2 * entries * d,
                 near=entries * row + touched * row, logged="add_spans<V>")
        c.kernel("join_spans<float4>", spans, threads, 0, logged="join_spans<V>")
    c.kernel("sum_lists", ceil(32 * n, 256), 256, 4 * entries + 16 * n)
    c.kernel("to_float", each_blocks(n), 256, 12 * n)
    c.kernel("sum_tiles", tiles, row_threads(d), batch * row)
    c.kernel("sum_rows", each_blocks(d), 256, 8 * tiles * d)
    c.kernel("weigh_block", blocks * ceil(d, 256), 256, n * row)
    c.kernel("sum_rows", each_blocks(d), 256, 8 * blocks * d)
    c.kernel("to_float", each_blocks(d), 256, 12 * d)
    # src/sae/step/optimizer.c: step_update
    c.kernel("adam", each_blocks(n * d), 256, 7 * n * row)
    c.kernel("adam", each_blocks(n), 256, 28 * n)
    c.kernel("adam_of_unit_rows", n, row_threads(d), 7 * n * row, near=10 * n * row)
    c.kernel("adam", each_blocks(d), 256, 28 * d)
    if precision != "tf32":
        c.kernel("round_bf16", each_blocks(n * d), 256, 6 * n * d)
    if precision == "f32":
        c.kernel("measure_rows", n, row_threads(d), 4 * n * d)
    c.down(4)  # the bench waits for the end of the step
    return c


# ---- a forward pass --------------------------------------------------------------------------------------------------

GPT2 = {"name": "GPT-2 small", "gpt2": True, "d": 768, "heads": 12, "kv": 12, "head": 64, "mlp": 3072, "layers": 9}
LLAMA = {"name": "Llama 3.2 1B", "gpt2": False, "d": 2048, "heads": 32, "kv": 8, "head": 64, "mlp": 8192, "layers": 9}


def forward(c, a, batch, context, dtype):
    """Adds mw_model_forward up to the site after a["layers"] layers, and the copy of its rows to the host, as in
    bench_forward."""
    rows, d, item = batch * context, a["d"], 2 if dtype == "bf16" else 4  # of weights, and of what only products read
    q, kv, mlp = a["heads"] * a["head"], a["kv"] * a["head"], a["mlp"]

    def product(n, k):
        c.product("products", rows, n, k, dtype, item * rows * k + item * n * k + 4 * rows * n)

    def norm():
        c.kernel("layer_norm" if a["gpt2"] else "rms_norm", rows, row_threads(d), (4 + item) * rows * d)

    def add():
        c.kernel("add", each_blocks(rows * d), 256, 12 * rows * d)

    def rotary(heads):
        c.up(4 * rows)
        c.kernel("rotary", rows, row_threads(heads * a["head"] // 2), 8 * rows * heads * a["head"])

    for added in range(2 if a["gpt2"] else 1):  # tokens, and GPT-2's positions
        c.up(4 * rows)
        c.kernel("gather", each_blocks(rows * d), 256, rows * d * (item + 4 + 4 * added))
    per = 1 if a["head"] <= 32 else 2 if a["head"] <= 64 else 4
    tile_rows = 32
    tiles = ceil(context, tile_rows)
    shared = 4 * (tile_rows * a["head"] + 32 * (a["head"] + 1) + tile_rows * 32)
    multiplications = batch * a["heads"] * tiles * (tiles + 1) // 2 * tile_rows * 32 * a["head"] * 2
    for _ in range(a["layers"]):
        norm()
        for n in (q, kv, kv):
            product(n, d)
        if not a["gpt2"]:
            rotary(a["heads"])
            rotary(a["kv"])
        c.up(8 * batch, 2)
        c.up(24 * batch * tiles)
        c.kernel("attend_tile<8, %d>" % per, batch * tiles * a["heads"], 128, rows * (4 * (q + 2 * kv) + item * q), flops=2 * multiplications,
                 shared=shared, lds=multiplications / 32 * LDS_OF_FMA, logged="attend_tiles", row="attention")
        product(d, q)
        add()
        norm()
        product(mlp, d)
        if not a["gpt2"]:
            product(mlp, d)
        c.kernel("activate", each_blocks(rows * mlp), 256, (item + (4 if a["gpt2"] else 8)) * rows * mlp)
        product(d, mlp)
        add()
    c.down(4 * rows * d, row="the site's rows to the host", pinned=True)
    return c


# ---- checks ----------------------------------------------------------------------------------------------------------

def logged_of_a_round(program, arguments):
    """Returns the GPU calls of one round of a bench: the difference between two rounds and one."""
    logs = []
    for rounds in "12":
        with tempfile.NamedTemporaryFile(mode="r") as log:
            subprocess.run([program, "--device", "cuda", "--rounds", rounds] + arguments, check=True, stdout=subprocess.DEVNULL,
                           env=dict(os.environ, EMULATOR_LOG=log.name, ASAN_OPTIONS="detect_leaks=0"))
            logs.append(collections.Counter(log.read().splitlines()))
    return logs[1] - logs[0]


def compare(name, counted, logged):
    wrong = ["%s: %dx in the log, %dx counted: %s" % (name, logged[k], counted[k], k)
             for k in sorted(set(counted) | set(logged)) if counted[k] != logged[k]]
    print("\n".join(wrong) if wrong else "roofline: %s: %d things asked of the GPU, as counted" % (name, sum(logged.values())))
    return len(wrong)


def check(benches, models, machine):
    wrong = 0
    for shape, precision in (((8, 40000, 4, 130), "bf16"), ((64, 512, 16, 200), "f32")):
        logged = logged_of_a_round(benches + "/bench_sae_step", ["--precision", precision, "--side", "16", "--shape",
                                                                ",".join(map(str, shape))])
        c = step(Count(machine), *shape, precision)
        side = Count(machine)  # a round of this bench also has a square product and an encoder
        side.product("square", 16, 16, 16, precision, 0)
        if precision == "bf16":
            side.kernel("round_rows", 16, 32, 0)
        encoder(side, shape[0], shape[1], shape[3], precision, min(chunk_rows(shape[1]), shape[3]))
        side.down(4, 2)
        wrong += compare("step %s %s" % (shape, precision), c.log + side.log, logged)
    for name in ("gpt2", "llama"):
        with open("%s/%s/config.json" % (models, name)) as f:
            config = json.load(f)
        gpt2 = name == "gpt2"
        d, heads = config["n_embd" if gpt2 else "hidden_size"], config["n_head" if gpt2 else "num_attention_heads"]
        a = {"gpt2": gpt2, "d": d, "heads": heads, "kv": heads if gpt2 else config["num_key_value_heads"],
             "head": config.get("head_dim") or d // heads, "mlp": 4 * d if gpt2 else config["intermediate_size"], "layers": 2}
        for dtype in ("f32", "bf16"):
            logged = logged_of_a_round(benches + "/bench_forward", ["--model", "%s/%s" % (models, name), "--site", "1.resid_post",
                                                                   "--dtype", dtype, "--batch", "2", "--context", "12"])
            wrong += compare("%s %s" % (name, dtype), forward(Count(machine), a, 2, 12, dtype).log, logged)
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", metavar="BENCHES")
    parser.add_argument("--models", default=os.path.join(ROOT, "tests/golden/models"))
    parser.add_argument("--step", metavar="D,N,K,BATCH")
    parser.add_argument("--precision", default="bf16", choices=PRECISIONS)
    parser.add_argument("--chunk-rows", type=int)
    for name, (value, what) in MACHINE.items():
        parser.add_argument("--" + name, type=float, default=value, help=what)
    o = parser.parse_args()
    machine = {name: getattr(o, name) for name in MACHINE}
    if o.check:
        return check(o.check, o.models, machine)
    if o.step:
        shape = tuple(map(int, o.step.split(",")))
        print(table(step(Count(machine), *shape, o.precision, o.chunk_rows)))
        return 0
    text = kernel_table.wrapped(page(machine))
    if o.write:
        with open(PAGE, "w") as f:
            f.write(text)
    else:
        print(text, end="")
    return 0


def table(c):
    out = ["| kernel | calls | GFLOP | GB | ms at the ceiling | bound by | share | ms as written | limited by |",
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    whole, few = c.total(), {"calls": 0, "flops": 0, "bytes": 0, "time": 0, "written": 0}
    for name, r in sorted(c.rows.items(), key=lambda i: -i[1]["written"]):
        if r["time"] < 0.005 * whole and r["written"] < 0.005 * c.total("written"):
            for k in few:
                few[k] += r[k]
            continue
        out.append("| %s | %d | %.4g | %.3g | %.3f | %s | %.1f %% | %.3f | %s |" % (
            name, r["calls"], r["flops"] / 1e9, r["bytes"] / 1e9, 1e3 * r["time"], max(r["by"], key=r["by"].get), 100 * r["time"] / whole,
            1e3 * r["written"], max(r["limit"], key=r["limit"].get)))
    out.append("| all others | %d | %.4g | %.3g | %.3f | | %.1f %% | %.3f | |" % (
        few["calls"], few["flops"] / 1e9, few["bytes"] / 1e9, 1e3 * few["time"], 100 * few["time"] / whole, 1e3 * few["written"]))
    out.append("| **sum** | %d | %.4g | %.3g | **%.2f** | | | **%.2f** | |" % (
        sum(r["calls"] for r in c.rows.values()), sum(r["flops"] for r in c.rows.values()) / 1e9,
        sum(r["bytes"] for r in c.rows.values()) / 1e9, 1e3 * whole, 1e3 * c.total("written")))
    return "\n".join(out)


def share_of_peak(machine, c, shape, precision, what="time"):
    """Returns the encoder's multiplications at the ceiling, as a share of the step, as bench_sae_step prints it."""
    d, n, _, batch = shape
    return 2 * batch * n * d / machine[precision] / c.total(what)


HEAD = """# Predictions for an H100

`tools/roofline.py --write` makes this page, before any measurement: **nothing on this page is measured**. The tool counts the bytes and
operations of each kernel that a step of `bench_sae_step` or a pass of `bench_forward` (`tools/bench`) launches, for the shapes of
`tools/gpu_check.sh`, and divides them by the rates of an H100. The test `cuda.calls` (`ctest --preset emulated -R cuda.calls`,
`tools/roofline.py --check`) compares kernels, grids, products, copies and fills with a log of the CUDA emulator. The bytes of a kernel
are derived by hand from its source.

## Results

The share of peak is what `bench_sae_step` prints as `of_peak`: the time of the encoder's multiplications at the peak of the precision,
divided by the time of the whole step. The target for bf16 is 70 %.

{steps}

{passes}

**At the ceiling**: each launch takes the time of its bytes of device memory or of its operations, and {launch_us:.0f} us at least.
**As written** adds the cost of the kernels' design: reads of L2, too few loads in flight, shared memory, products whose output is no whole
number of waves of 128 x 256 tiles, pageable memory, and waits of the host. The parameters of this column are assumptions, so it is the less
certain one.

## Limits of a bf16 step

{bound}

The largest costs in the time of the step (2304, 65536, 64, 8192) in bf16, unless another shape is named:

{findings}

## Assumptions

{assumptions}

- L2: a table whose rows are read in random order is read once if it fits; of a larger table, the share that fits is found in L2. The H100's
  L2 has two halves, and data that multiprocessors of both halves read may lie in both: then L2 acts as 25 MB. With `--cache 25e6` the three
  bf16 steps take {half_cache} ms at the ceiling.
- Pre-activations of a chunk stay in L2 until their largest values are found, where they take at most 0.7 of L2:
  {stay}.
  Weights that stream past may evict them, which would cost up to three times their bytes.
- Latents are equally likely, as in the bench, whose rows are random. In a training some latents fire often: then rows of W_dec are found in
  L2 more often, and `add_spans` cuts latents with many entries into runs of 128.
- Products: whole waves are of 128 x 256 tiles, which cuBLAS uses for bf16; cuBLAS may choose other tiles, or split sums, and lose less.
- Launches do not overlap, and the host is always ahead except at its waits. Lazy loading of kernels falls into the warm-up rounds.
- A batch is on the device already, as in the bench. In a training the batch arrives on a stream of its own: {arrive} ms at
  {pcie:.0f} GB/s for the three shapes, hidden behind the step unless the host is slower.

## Costs of a training beyond the bench

- `train.clip_norm` is 1 by default, and 0 in the bench: clipping adds `unit_rows` over W_dec and its gradient (16 bytes a weight),
  `sum_squares` over both gradients (8 bytes a weight), and two more waits. That is {clip:.2f} ms at the ceiling for (2304, 65536, 64, 8192).
  `sum_squares` has one block of 256 threads for 512 latents there, 128 blocks in all, with 16 bytes a thread in flight: {clip_written:.2f} ms
  instead of {clip_squares:.2f}.
- AuxK (`train.aux_k: auto`): a second, f32 product with the rows of dead latents, {aux:.1f} ms for each tenth of the latents that is dead
  at the f32 rate; this product does not use TF32 or bf16 ({aux_at}).
- Means of the weights (`train.ema`): 12 bytes a parameter more.

## Table by table

{tables}
"""

FINDINGS = """1. **The encoder reads W_enc once for each chunk of rows** ({chunk_at}: a chunk has 2^23 floats, and where those are fewer
   than 256 rows, above 32768 latents, 512 rows). With 65536 latents W_enc is read {enc_gb:.0f} GB, {enc:.2f} ms where the multiplications take
   {flops:.2f}. Chunks must have {rows:.0f} rows (bf16 and TF32 alike) for the multiplications to take longer than reading the weights. With the 512
   rows the step takes {chunk512:.2f} ms instead of {chunk128:.2f} with 128 at the ceiling, although the pre-activations then go through memory; with
   131072 latents {big512:.1f} instead of {big128:.1f}; in TF32 {tf512:.1f} instead of {tf128:.1f}. With 24576 latents 256 rows are right ({small512:.2f} ms
   with 512).
2. **Adam**: 28 bytes a weight and matrix, {adam:.2f} ms. `adam_of_unit_rows` ({unit_at}) has one load of 4 bytes a thread
   in flight in its first two loops ({row_at}); loads by float4 would do. Adam cannot be faster than {adam_floor:.2f} ms without a smaller state.
3. **Rows of W_dec are read twice**, by `decode` ({decode_at}) and `dots` ({dots_at}): {rows_gb:.1f} GB each, {decode:.2f} and {dots:.2f} ms. W_dec has
   {dec_mb:.0f} MB, so L2 holds little of it. A bf16 copy of W_dec for these would halve both.
4. **Gradients by latent**: `add_spans` ({spans_at}) reads a row of 4 d bytes an entry, twice, {spans:.2f} ms. Before it `out` is filled with
   zeros ({fill_at}), which most latents then overwrite: {fill:.2f} ms. The gradient is written and read again by Adam; Adam that
   sums a latent's entries itself would save the filling, the writing and the reading, 24 bytes a latent's weight, {fused:.2f} ms.
   `latent_of` ({search_at}) is a search of log2(n) dependent loads by every thread for each latent of a span.
5. **`top_few`** ({topk_at}) reads a row twice; with chunks of 128 rows it has 128 blocks for 132 multiprocessors, one block of 256
   threads each, an eighth of what one can hold: {topk:.2f} ms as written.
6. **One block a tile of 128 rows** in `sum_tiles` ({tiles_at}) and `sum_squares` ({squares_at}): {tiles} blocks for 132 multiprocessors. `sum_squares`
   {squares:.2f} ms instead of {squares_ceiling:.3f}, `sum_tiles` {sums:.2f} instead of {sums_ceiling:.2f}.
7. **The bf16 copy of W_enc** is made by a pass of its own ({copy_at}), {copy:.2f} ms at the ceiling, {copy_written:.2f} as
   `round_bf16` has one load of 4 bytes a thread in flight ({bf16_at}). `adam` could write it: 2 bytes instead of 6.
8. **`weigh_block`** ({weigh_at}) reads all of W_enc for the gradient of b_dec: {weigh:.2f} ms.
9. **Attention of a pass** ({attention_at}) multiplies in f32 from shared memory, with {lds} loads from it for each multiplication in the
   sm_90 code (16 multiplications to 20 to 32 loads in q k, 32 to 64 in p v), and a multiprocessor does one such load a clock for 32 lanes:
   some {attention_rate:.0f} TFLOP/s. {attention_gpt2:.1f} ms of GPT-2's pass and {attention_llama:.1f} of Llama's, in f32 and bf16 alike: in bf16 more than
   {attention_times:.1f} times the products of GPT-2. Keeping a key in registers for the eight rows of a warp would remove about half of the loads;
   tensor cores nearly all.
10. **64-bit division**: `gather` ({gather_at}) divides 64-bit numbers for each element, `rotary` ({rotary_at})
    likewise. Both are small in a pass; they are counted by their bytes."""


PLACES = {  # where to look: file, text of the line
    "chunk_at": ("src/backend/backend.c", "DEVICE_FLOATS = "), "aux_at": ("src/sae/step/auxk.c", ".b_dtype = MW_F32"),
    "copy_at": ("src/sae/encoder.c", "ops->convert("), "unit_at": ("cuda_norm.cu", "void adam_of_unit_rows("),
    "row_at": ("cuda_norm.cu", "float unit_row("), "rotary_at": ("cuda_norm.cu", "void rotary("),
    "decode_at": ("cuda_sparse.cu", "void decode("), "dots_at": ("cuda_sparse.cu", "void dots("),
    "spans_at": ("cuda_sparse.cu", "void add_spans("), "fill_at": ("cuda_sparse.cu", "mw_cuda_fill_zero("),
    "search_at": ("cuda_sparse.cu", "int64_t latent_of("), "topk_at": ("cuda_sparse.cu", "void top_few("),
    "tiles_at": ("cuda_sums.cu", "void sum_tiles("), "squares_at": ("cuda_sums.cu", "void sum_squares("),
    "weigh_at": ("cuda_sums.cu", "void weigh_block("), "bf16_at": ("cuda_matmul.cu", "void round_bf16("),
    "attention_at": ("cuda_attention.cu", "void attend_tile("),
    "gather_at": ("cuda_elementwise.cu", "void gather("),
}


def places():
    found = {}
    for name, (path, text) in PLACES.items():
        with open(os.path.join(ROOT, path if "/" in path else "src/backend/cuda/" + path)) as f:
            found[name] = "%s:%d" % (path, next(i for i, line in enumerate(f, 1) if text in line))
    return found


def predictions(machine):
    steps = {(s, p): step(Count(machine), *s, p) for s in STEPS for p in PRECISIONS}
    passes = {(a["name"], t): forward(Count(machine), a, 64, 256, t) for a in (GPT2, LLAMA) for t in ("f32", "bf16")}
    return steps, passes


def findings(machine, steps, passes):
    shape = STEPS[1]
    d, n, k, batch = shape
    c, big = steps[shape, "bf16"], STEPS[2]
    ms = lambda name, what="time": 1e3 * c.rows[name][what]
    of = lambda s, p, chunk: 1e3 * step(Count(machine), *s, p, chunk).total()
    gpt2, llama = passes["GPT-2 small", "bf16"], passes["Llama 3.2 1B", "bf16"]
    weight = n * d
    return FINDINGS.format(
        **places(),         enc_gb=c.rows["encoder product"]["bytes"] / 1e9, rows=machine["bf16"] / machine["memory"],
        small512=of(STEPS[0], "bf16", 512), enc=ms("encoder product"), flops=1e3 * 2 * batch * weight / machine["bf16"], chunk128=of(shape, "bf16", 128),
        chunk512=of(shape, "bf16", 512), big128=of(big, "bf16", 128), big512=of(big, "bf16", 512), tf128=of(shape, "tf32", 128),
        tf512=of(shape, "tf32", 512), adam=ms("adam") + ms("adam_of_unit_rows"), adam_floor=1e3 * 56 * weight / machine["memory"],
        rows_gb=c.rows["decode<float4>"]["bytes"] / 1e9, decode=ms("decode<float4>"), dots=ms("dots<float4>"), dec_mb=4 * weight / 1e6,
        spans=ms("add_spans<float4>"), fill=ms("fill with zeros"), fused=1e3 * 24 * weight / machine["memory"],
        topk=ms("top_few", "written"), tiles=ceil(batch, ROW_TILE), squares=ms("sum_squares", "written"), squares_ceiling=ms("sum_squares"),
        sums=ms("sum_tiles", "written"), sums_ceiling=ms("sum_tiles"), copy=ms("round_bf16"), copy_written=ms("round_bf16", "written"),
        weigh=ms("weigh_block"), lds=LDS_OF_FMA, attention_rate=2e-12 * 32 * machine["sms"] * machine["clock"] / LDS_OF_FMA,
        attention_gpt2=1e3 * gpt2.rows["attention"]["written"], attention_llama=1e3 * llama.rows["attention"]["written"],
        attention_times=gpt2.rows["attention"]["written"] / gpt2.rows["products"]["written"])


def step_rows(machine, steps):
    out = ["| d, n, k, batch | precision | ms at the ceiling | share of peak | ms as written | share of peak | encoder alone, ms |",
           "| --- | --- | --- | --- | --- | --- | --- |"]
    for (s, p), c in steps.items():
        alone = sum(c.rows[r]["time"] for r in ("encoder product", "round_rows") if r in c.rows)
        out.append("| %d, %d, %d, %d | %s | %.2f | %.0f %% | %.2f | %.0f %% | %.2f |" % (
            *s, p, 1e3 * c.total(), 100 * share_of_peak(machine, c, s, p), 1e3 * c.total("written"),
            100 * share_of_peak(machine, c, s, p, "written"), 1e3 * alone))
    return "\n".join(out)


def pass_rows(passes):
    out = ["| pass of 64 x 256 tokens to 8.resid_post | dtype | ms at the ceiling | tokens/s | ms as written | tokens/s |",
           "| --- | --- | --- | --- | --- | --- |"]
    for (name, dtype), c in passes.items():
        out.append("| %s | %s | %.1f | %.3g | %.1f | %.3g |" % (name, dtype, 1e3 * c.total(), 64 * 256 / c.total(),
                                                             1e3 * c.total("written"), 64 * 256 / c.total("written")))
    return "\n".join(out)


def bound(machine):
    """Returns the share of the peak that Adam alone allows."""
    ratio = machine["bf16"] * 56 / machine["memory"] / 2  # number of rows whose multiplications take as long as Adam
    return ("**The target cannot be met at these batches.** Adam over W_enc and W_dec moves 56 bytes a latent and dimension, whatever the batch; the\n"
            "encoder does 2 operations a row there. At the ceilings Adam takes as long as the encoder at a batch of %.0f rows. With nothing else\n"
            "in the step the share of peak would be %.0f %% at 8192 rows and %.0f %% at 4096; 70 %% needs %.0f rows. This holds for any program that\n"
            "keeps weights and both moments in f32 and reads a gradient for all of them in each step." % (ratio, 100 * 8192 / (8192 + ratio), 100 * 4096 / (4096 + ratio), ratio * 0.7 / 0.3))


def page(machine):
    steps, passes = predictions(machine)
    halved = dict(machine, cache=machine["cache"] / 2)
    d, n, k, batch = STEPS[1]
    squares = 8 * n * d
    clip = {"clip": 24 * n * d / machine["memory"], "clip_squares": squares / machine["memory"],
            "clip_written": squares / (ceil(n, LATENT_BLOCK) * 256 * 16 / machine["latency"])}
    assumptions = "\n".join("- `--%s %g`: %s." % (name, value, what) for name, (value, what) in MACHINE.items())
    tables = "\n\n".join(["### A step of (%d, %d, %d, %d) in %s\n\n%s" % (*s, p, table(c)) for (s, p), c in steps.items()] +
                         ["### A pass of %s in %s\n\n%s" % (name, t, table(c)) for (name, t), c in passes.items()])
    return HEAD.format(
        aux_at=places()["aux_at"],         steps=step_rows(machine, steps), passes=pass_rows(passes), launch_us=1e6 * machine["launch"], bound=bound(machine),
        findings=findings(machine, steps, passes), assumptions=assumptions, tables=tables,
        half_cache=", ".join("%.2f" % (1e3 * step(Count(halved), *s, "bf16").total()) for s in STEPS),
        stay=", ".join("%d latents, chunks of %d rows, %.0f MB" % (s[1], chunk_rows(s[1]), 4e-6 * chunk_rows(s[1]) * s[1]) for s in STEPS),
        arrive=", ".join("%.2f" % (1e3 * 4 * s[0] * s[3] / machine["pcie"]) for s in STEPS), pcie=machine["pcie"] / 1e9,
        aux=1e3 * 2 * batch * d * n / 10 / machine["f32"], **{name: 1e3 * seconds for name, seconds in clip.items()})


if __name__ == "__main__":
    sys.exit(main())
