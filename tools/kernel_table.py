#!/usr/bin/env python3
"""Every kernel of the CUDA backend: registers, stack, spills, shared memory, launch shape, and occupancy by
calculation.

    tools/kernel_table.py                                   # compiles the kernels and prints docs/running/gpu-kernels.md
    tools/kernel_table.py --write                           # writes docs/running/gpu-kernels.md
    tools/kernel_table.py --check                           # exit code 1 if a kernel spills, or the table is out of date
    tools/kernel_table.py --check-names                     # exit code 1 if a kernel of the sources has no launch shape below
    tools/kernel_table.py --check --library libmicrowcuda.a --program microw --architectures 80 90 100

--check-names reads the sources only. --library reads the compiled code of a build by cuobjdump; if the toolkit has none,
as when installed by pip, the sources are compiled instead, which takes a quarter of a minute per architecture. --program
checks that the program has code for these architectures. All but --check-names need nvcc; nothing needs a GPU.
"""
import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = os.path.join(ROOT, "src/backend/cuda")
TABLE = os.path.join(ROOT, "docs/running/gpu-kernels.md")
ARCHITECTURES = [80, 90, 100]

# Known stack use and spills: (kernel, architecture) -> most bytes of stack per thread, and the reason to accept them.
ALLOWED = {
    ("cub::DeviceScanKernel", 90): (8, "CUB's own kernel, whose launch bounds leave 64 registers a thread: one register is spilled. It "
                                       "runs once a step, over one number a latent, and takes microseconds."),
    ("cub::DeviceRadixSortOnesweepKernel", 100): (8, "CUB's own kernel with its own launch bounds: one register is spilled. It sorts the "
                                                     "entries of a step, some hundred thousand pairs."),
}

# Launch shapes: threads per block, in words and in the typical case; dynamic shared memory likewise; blocks.
ROW = "row's warps, 32 to 256"
EACH = "min(items / 256, 65535), the rest by a loop"
TILE = "tile"


def launch(block, typical, grid, shared="0", bytes_=0):
    return {"block": block, "threads": typical, "grid": grid, "shared": shared, "bytes": bytes_}


def each(what):
    return launch("256", 256, EACH.replace("items", what))


def rows(what, typical=256):
    return launch(ROW, typical, what)


LAUNCHES = {
    "attend_row": launch("128", 128, "rows of sequences with fewer than 8 x heads", "(d + 128) x 4", 768),
    "attend_tile<8, 1>": launch("128", 128, "tiles of 32 rows x heads", TILE + ", d to 32", 12416),
    "attend_tile<8, 2>": launch("128", 128, "tiles of 32 rows x heads", TILE + ", d to 64", 20608),
    "attend_tile<8, 4>": launch("128", 128, "tiles of 32 rows x heads", TILE + ", d to 128", 36992),
    "attend_tile<4, 8>": launch("128", 128, "tiles of 16 rows x heads", TILE + ", d to 256", 51328),
    "pick": each("entries"), "count_rows": rows("rows"), "write_rows": rows("rows"),
    "expand": launch("64", 64, "rows of the batch"), "find_starts": each("entries"), "place": each("entries"),
    "sum_lists": launch("256", 256, "latents / 8: a warp each"), "grow_older": each("latents"), "fire": each("entries"),
    "flag_silent": each("latents"), "write_silent": each("latents"), "raise_silent": each("latents"), "count_above_zero": each("entries"),
    "activate": each("numbers"), "add": each("numbers"), "soft_cap": each("numbers"), "clamp": each("numbers"), "xielu": each("numbers"),
    "gather": each("numbers"),
    "pick_own": each("entries"), "count_row": launch("64", 64, "rows"), "write_row": launch("64", 64, "rows"),
    "count_digits": each("entries"), "map_entries": each("entries"),
    "round_rows": rows("rows of a product"), "round_bf16": each("numbers"), "round_f16": each("numbers"),
    "widen_f16": each("numbers"), "add_bias": rows("rows of a product"),
    "layer_norm": rows("rows"), "rms_norm": rows("rows"), "rotary": rows("rows"), "unit_rows": rows("latents"),
    "adam": each("numbers"), "adam_of_unit_rows": rows("latents"),
    "top_many": launch("256", 256, "rows of a chunk"), "top_few": launch("256", 256, "rows of a chunk"),
    "measure_rows": rows("rows"), "raise": rows("rows of a chunk"),
    "all_dots<float>": launch("256", 256, "rows / 4"), "all_dots<float4>": launch("256", 256, "rows / 4"),
    "select_screened<float>": launch("256", 256, "rows of a chunk"), "select_screened<float4>": launch("256", 256, "rows of a chunk"),
    "decode<float>": rows("rows"), "decode<float4>": rows("rows"),
    "dots<float>": launch("32 an entry of the longest row, to 256", 256, "rows"),
    "dots<float4>": launch("32 an entry of the longest row, to 256", 256, "rows"),
    "add_spans<float>": rows("entries / 128"), "add_spans<float4>": rows("entries / 128"),
    "join_spans<float>": rows("entries / 128"), "join_spans<float4>": rows("entries / 128"),
    "sum_tiles": rows("rows / 128"), "sum_rows": each("columns"),
    "weigh_block": launch("256", 256, "blocks of latents x d / 256"), "sum_squares": launch("256", 256, "blocks of numbers"),
    "to_float": each("numbers"), "subtract": rows("rows"), "scale_columns": rows("rows"), "combine": each("numbers"),
    "turn": launch("256", 256, "rows / 32 x columns / 32"), "lengths": rows("latents"), "directions": rows("latents"),
}


# ---- resources of a kernel ----------------------------------------------------------------------------------------

def name_of(symbol):
    """Returns a readable name: attend_tile<8, 2>, cub::DeviceScanKernel."""
    if symbol.startswith("_ZN3cub"):
        for size, at in ((int(m.group(1)), m.end()) for m in re.finditer(r"(\d+)(?=[A-Z])", symbol)):
            if symbol[at:at + size].endswith("Kernel"):
                return "cub::" + symbol[at:at + size]
        return symbol
    found = re.match(r"_ZL?(\d+)", symbol)
    if not found:
        return symbol
    end = found.end() + int(found.group(1))
    name, rest = symbol[found.end():end], symbol[end:]
    if not rest.startswith("I"):
        return name
    arguments = re.match(r"I((?:Li\d+E|f|\d+float4)+)E", rest)
    listed = re.findall(r"Li(\d+)E|(f)(?!loat)|\d(float4)", arguments.group(1))
    return "%s<%s>" % (name, ", ".join(number or ("float" if single else vector) for number, single, vector in listed))


def compile_all(nvcc, architecture):
    """Returns what ptxas reports for every kernel: {name: {file, registers, stack, stores, loads, shared}}."""
    kernels = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(os.listdir(SOURCES)):
            if not source.endswith(".cu"):
                continue
            said = subprocess.run([nvcc, "-cubin", "-arch=sm_%d" % architecture, "-O3", "-std=c++17", "-I" + ROOT + "/include",
                                   "-I" + ROOT + "/src", "-Xptxas", "-v", os.path.join(SOURCES, source),
                                   "-o", folder + "/out.cubin"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if said.returncode:
                sys.exit(said.stdout + "kernel_table: nvcc failed on " + source)
            now = None
            for line in said.stdout.splitlines():
                entry = re.search(r"Compiling entry function '(\S+)'", line)
                if entry:
                    now = kernels.setdefault(name_of(entry.group(1)), {"file": source, "shared": 0})
                frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
                if frame and now is not None:
                    now["stack"], now["stores"], now["loads"] = map(int, frame.groups())
                used = re.search(r"Used (\d+) registers", line)
                if used and now is not None:
                    now["registers"] = int(used.group(1))
                    shared = re.search(r"(\d+) bytes smem", line)
                    now["shared"] = int(shared.group(1)) if shared else 0
    return kernels


def read_library(cuobjdump, library):
    """Returns the same for compiled code, {architecture: {name: ...}}. Spills are part of the stack there."""
    said = subprocess.run([cuobjdump, "--dump-resource-usage", library], stdout=subprocess.PIPE, check=True, text=True).stdout
    all_, architecture, name = {}, None, None
    for line in said.splitlines():
        found = re.match(r"arch = sm_(\d+)", line.strip())
        if found:
            architecture = int(found.group(1))
        found = re.match(r"Function (\S+):", line.strip())
        if found:
            name = name_of(found.group(1))
        found = re.match(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line.strip())
        if found:
            registers, stack, shared, local = map(int, found.groups())
            if architecture >= 90:  # cuobjdump includes the system's share of each block
                shared -= min(shared, 1024)
            all_.setdefault(architecture, {})[name] = {"registers": registers, "stack": stack + local, "shared": shared}
    return all_


# ---- architectures of a program ----------------------------------------------------------------------------------

def code_of(program, cuobjdump):
    """Returns the architectures for which the program has compiled code."""
    if cuobjdump:
        said = subprocess.run([cuobjdump, "--list-elf", program], stdout=subprocess.PIPE, check=True, text=True).stdout
        return {int(n) for n in re.findall(r"\.sm_(\d+)\w?\.cubin", said)}
    with open(program, "rb") as f:
        data = f.read()
    magic, found, at = struct.pack("<IH", 0xBA55ED50, 1), set(), 0
    while (at := data.find(magic, at)) >= 0:  # a fat binary: a header of 16 bytes, then entries, each with a header
        at, end = at + 16, at + 16 + struct.unpack_from("<Q", data, at + 8)[0]
        while at < end:
            kind, _, head, size = struct.unpack_from("<HHIQ", data, at)
            if kind == 2:  # compiled code, not PTX
                found.add(struct.unpack_from("<I", data, at + 28)[0])
            at += head + size
    return found


# ---- occupancy ------------------------------------------------------------------------------------------------------

def occupancy(registers, threads, shared):
    """Returns the blocks that an SM of sm_90 runs at once, and the resource that limits them."""
    warps = -(-threads // 32)
    a_warp = -(-(registers * 32) // 256) * 256
    of = {"warps": 64 // warps, "blocks": 32,
          "registers": 4 * (65536 // 4 // a_warp) // warps,  # each scheduler has a quarter
          "shared memory": 233472 // (-(-(shared + 1024) // 128) * 128)}
    blocks = min(of.values())
    return blocks, 100 * blocks * warps // 64, ", ".join(k for k, v in of.items() if v == blocks)


# ---- the page --------------------------------------------------------------------------------------------------------

HEAD = """# Kernels of the CUDA backend

`tools/kernel_table.py --write` makes this page with nvcc {version}, flags `-O3 -std=c++17` as in a release build; the test `cuda.kernels` \
compares the page with the code of a build. Nothing on this page is measured: registers, stack, spills and static shared memory are the \
output of `ptxas -v`, and occupancy is calculated.

{summary}

## Resources

Each cell lists sm_80 / sm_90 / sm_100. Spills are bytes stored and loaded per thread. Static shared memory is in bytes, without the \
1024 bytes that sm_90 and later reserve in each block. The column `file` leaves out the prefix `cuda_` of the files in `src/backend/cuda`.

| kernel | file | registers | stack | spills | static shared |
| --- | --- | --- | --- | --- | --- |
"""

LAUNCH_HEAD = """
## Launches, and occupancy on sm_90

An SM has 65536 registers (allocated in units of 256 per warp, a quarter for each of its four schedulers), 64 warps, 32 blocks and 228 KB \
of shared memory; each block takes 1 KB more than it asks for. Threads and dynamic shared memory are those of the typical case: rows of 1024 \
numbers or more, and the widest head of an instance. Shorter rows use smaller blocks (768 columns in fours: 192 threads). The number of \
blocks per SM is an upper bound: a grid may be smaller. CUB chooses the shapes of its own kernels. `tile` stands for \
(R d + 32 (d + 1) + 32 R) x 4 bytes, where R is the number of rows of a tile; "row's warps" are as many whole warps as a row fills; \
`entries` counts the room that is allocated for them.

| kernel | threads a block | dynamic shared (bytes) | blocks of a grid | blocks an SM | warps | limit |
| --- | --- | --- | --- | --- | --- | --- |
"""


def cells(measured, name, field):
    return " / ".join("%d" % measured[a][name][field] if name in measured[a] else "-" for a in ARCHITECTURES)


def spills(measured, name):
    return " / ".join("%d+%d" % (measured[a][name]["stores"], measured[a][name]["loads"])
                      if measured[a][name]["stores"] + measured[a][name]["loads"] else "0" for a in ARCHITECTURES)


def wrapped(text):
    """Paragraphs and list items in lines of at most 120 columns; headings and tables stay as they are."""
    out = []
    for block in text.split("\n\n"):
        items = []
        for line in block.split("\n"):
            alone = re.match(r"[|#]", line) or not line
            if alone or re.match(r"(-|\d+\.) ", line) or not items or re.match(r"[|#]", items[-1]):
                items.append(line)
            else:
                items[-1] += " " + line.strip()
        for item in items:
            mark = re.match(r"((-|\d+\.) )?", item).group(0)
            if re.match(r"[|#]", item) or not item:
                out.append(item)
            else:
                out += textwrap.wrap(item, 120, subsequent_indent=" " * len(mark), break_long_words=False, break_on_hyphens=False)
        out.append("")
    return "\n".join(out[:-1])


def page(measured, version):
    names = sorted(measured[90], key=lambda n: (n.startswith("cub"), measured[90][n]["file"], n))
    spilling = sorted({n for a in ARCHITECTURES for n in measured[a] if measured[a][n]["stores"] or measured[a][n]["stack"]})
    own = [n for n in spilling if not n.startswith("cub")]
    summary = ["%d kernels of microw's own: %s." % (sum(not n.startswith("cub") for n in names),
                                                   "none spills, none uses a stack" if not own else "with a stack: " + ", ".join(own))]
    summary += ["Known and accepted: `%s` on sm_%d, %d bytes of stack. %s" % (n, a, most, why)
                for (n, a), (most, why) in sorted(ALLOWED.items())]
    out = HEAD.format(version=version, summary="\n\n".join(summary))
    for n in names:
        out += "| `%s` | %s | %s | %s | %s | %s |\n" % (n, measured[90][n]["file"].replace("cuda_", "", 1), cells(measured, n, "registers"),
                                                      cells(measured, n, "stack"), spills(measured, n), cells(measured, n, "shared"))
    out += LAUNCH_HEAD
    for n in names:
        if n not in LAUNCHES:
            continue
        shape = LAUNCHES[n]
        blocks, share, limit = occupancy(measured[90][n]["registers"], shape["threads"], measured[90][n]["shared"] + shape["bytes"])
        block = shape["block"] if shape["block"].isdigit() else "%s; %d" % (shape["block"], shape["threads"])
        dynamic = shape["shared"] if shape["shared"] == "0" else "%s; %d" % (shape["shared"], shape["bytes"])
        out += "| `%s` | %s | %s | %s | %d | %d %% | %s |\n" % (n, block, dynamic, shape["grid"], blocks, share, limit)
    return wrapped(out)


def read_page():
    """Returns (nvcc's version, {name: {field: "80 / 90 / 100"}})."""
    with open(TABLE) as f:
        text = f.read()
    table = {}
    for line in text[text.index("## Resources"):text.index("## Launches")].splitlines():
        parts = [p.strip() for p in line.strip("|").split("|")]
        if line.startswith("| `"):
            table[parts[0].strip("`")] = {"registers": parts[2], "stack": parts[3], "shared": parts[5]}
    return re.search(r"with nvcc (\S+),", text).group(1), table


# ---- checks ----------------------------------------------------------------------------------------------------------

def check_stack(measured):
    wrong = []
    for a, kernels in measured.items():
        for name, k in sorted(kernels.items()):
            most = ALLOWED.get((name, a), (0, ""))[0]
            used = max(k["stack"], k.get("stores", 0))
            if used > most:
                wrong.append("%s on sm_%d has %d bytes of stack or spills a thread; allowed: %d" % (name, a, used, most))
    return wrong


def check_launches(measured):
    return ["%s has no launch shape in tools/kernel_table.py" % n
            for n in sorted({n for kernels in measured.values() for n in kernels})
            if n not in LAUNCHES and not n.startswith("cub::")]


def check_names():
    """Compares the kernels that the sources declare with LAUNCHES, by name without template arguments."""
    declared = set()
    for source in sorted(os.listdir(SOURCES)):
        if source.endswith(".cu"):
            with open(os.path.join(SOURCES, source)) as f:
                declared |= set(re.findall(r"__global__ void (\w+)\(", f.read()))
    listed = {n.split("<")[0] for n in LAUNCHES}
    return (["%s has no launch shape in tools/kernel_table.py" % n for n in sorted(declared - listed)]
            + ["%s has a launch shape in tools/kernel_table.py and is no kernel" % n for n in sorted(listed - declared)])


def check_page(measured, version):
    made_by, table = read_page()
    if made_by != version:
        print("kernel_table: the table was made with nvcc %s, this is %s: only spills are checked" % (made_by, version))
        return []
    wrong = []
    for a, kernels in measured.items():
        if a not in ARCHITECTURES:
            continue
        place = ARCHITECTURES.index(a)
        wrong += ["%s is not in the table" % n for n in sorted(set(kernels) - set(table))]
        wrong += ["%s is in the table and not in the code for sm_%d" % (n, a) for n in sorted(set(table) - set(kernels))]
        for n in sorted(set(table) & set(kernels)):
            wrong += ["%s on sm_%d: %s is %d, the table has %s" % (n, a, field, kernels[n][field], table[n][field].split(" / ")[place])
                      for field in ("registers", "stack", "shared") if table[n][field].split(" / ")[place] != str(kernels[n][field])]
    return [w + "; tools/kernel_table.py --write" for w in wrong]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--check-names", action="store_true")
    parser.add_argument("--library", help="libmicrowcuda.a of a build")
    parser.add_argument("--program", help="microw of a build")
    parser.add_argument("--architectures", nargs="*", type=int, default=ARCHITECTURES)
    o = parser.parse_args()
    if o.check_names:
        wrong = check_names()
        for line in wrong:
            print("kernel_table: " + line)
        return 1 if wrong else 0
    said = subprocess.run([o.nvcc, "--version"], stdout=subprocess.PIPE, check=True, text=True).stdout
    version = re.search(r"V([\d.]+)", said).group(1)
    if not o.check:
        text = page({a: compile_all(o.nvcc, a) for a in ARCHITECTURES}, version)
        if o.write:
            with open(TABLE, "w") as f:
                f.write(text)
        else:
            print(text, end="")
        return 0
    beside = os.path.join(os.path.dirname(shutil.which(o.nvcc) or ""), "cuobjdump")
    cuobjdump = os.environ.get("CUOBJDUMP") or (beside if os.path.exists(beside) else shutil.which("cuobjdump"))
    wrong = []
    if o.program:
        has = code_of(o.program, cuobjdump)
        wrong += ["%s has no code for sm_%d" % (o.program, a) for a in o.architectures if a not in has]
    if o.library and cuobjdump:
        measured = read_library(cuobjdump, o.library)
        wrong += ["%s has no code for sm_%d" % (o.library, a) for a in o.architectures if a not in measured]
    else:
        measured = {a: compile_all(o.nvcc, a) for a in o.architectures}
    wrong += check_stack(measured) + check_launches(measured) + check_page(measured, version)
    for line in wrong:
        print("kernel_table: " + line)
    if not wrong:
        print("kernel_table: %d kernels for %s, by %s: no spills but the known" % (
            len({n for k in measured.values() for n in k}), ", ".join("sm_%d" % a for a in sorted(measured)),
            "cuobjdump" if o.library and cuobjdump else "ptxas"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
