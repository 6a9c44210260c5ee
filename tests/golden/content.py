"""What is compared of the outputs of a run, for outputs.sh.

    content.py --inputs AREA        writes the inputs of the runs that are made by rule
    content.py FROM TO ROOT         copies the outputs in FROM to TO, without rates, times, versions and the folder ROOT

Of an HDF5 file a list is written: the sum of each dataset's bytes, and the attributes. Of a folder `settings` only what does not
depend on the CPU is taken.
"""
import base64
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib


def inputs(area):
    ids = [(i * i * 7 + i * 3 + i // 5) % 61 for i in range(600)]
    head = b"{'descr': '<i4', 'fortran_order': False, 'shape': (%d,), }" % len(ids)
    head += b" " * ((-len(head) - 11) % 64) + b"\n"
    with open(f"{area}/ids.npy", "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + struct.pack(f"<{len(ids)}i", *ids))

    tokenizer = {"version": "1.0", "added_tokens": [], "decoder": {"type": "ByteLevel"},
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                 "model": {"type": "BPE", "vocab": {chr(33 + i): i for i in range(61)}, "merges": []}}
    for model in os.listdir(f"{area}/models"):
        with open(f"{area}/models/{model}/tokenizer.json", "w") as f:
            json.dump(tokenizer, f)

    with open(f"{area}/configs/demo/corpus.txt") as f:
        lines = [f.readline().strip() for _ in range(60)]
    with open(f"{area}/records.jsonl", "w") as f:
        for i, line in enumerate(lines[:40]):
            f.write(json.dumps({"text": line} if i % 7 else {"other": i}) + "\n")
    with open(f"{area}/table.csv", "w") as f:
        f.write("n,text\n" + "".join(f'{i},"{line}"\n' for i, line in enumerate(lines[40:])))

    # an SAE whose weights are the same on every CPU
    shapes = {"W_dec": (64, 128), "b_dec": (128,), "encoder.bias": (64,), "encoder.weight": (64, 128)}
    head, data = {}, b""
    for place, (name, shape) in enumerate(shapes.items()):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [((i * 7919 + i // 128 * 31 + place * 101) % 257 - 128) / 1024 for i in range(count)]
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": (len(data), len(data) + 4 * count)}
        data += struct.pack(f"<{count}f", *values)
    head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    os.makedirs(f"{area}/fixed")
    with open(f"{area}/fixed/sae.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)
    config = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": False, "num_latents": 64, "k": 8,
              "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": 128}
    with open(f"{area}/fixed/cfg.json", "w") as f:
        json.dump(config, f)


def h5dump(*arguments):
    return subprocess.run(["h5dump", *arguments], check=True, stdout=subprocess.PIPE).stdout


def of_hdf5(path, settings):
    made = []
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/values"
        for name in re.findall(r"^ dataset +(\S+)", h5dump("-n", path).decode(), re.M):
            if settings and name.startswith("/sites/"):
                continue
            h5dump("-d", name, "-b", "LE", "-o", out, path)
            with open(out, "rb") as f:
                made.append(f"{name} {hashlib.sha256(f.read()).hexdigest()}\n")
    if not settings:
        text = h5dump("-A", path).decode().split("\n", 1)[1]  # the first line has the path
        text = re.sub(r'ATTRIBUTE "microw_(version|git)" \{.*?\n   \}\n', "", text, flags=re.S)
        made += [re.sub(r"\s+", " ", line).strip() + "\n" for line in text.splitlines()]
    return "".join(made).encode()


def of_report(data):
    """The data of the page, without its facts: those are words, versions and the time."""
    made = b""
    for name, packed in re.findall(rb'<script type="application/octet-stream" id="([^"]+)">([^<]*)</script>', data):
        part = zlib.decompress(base64.b64decode(packed))
        if name == b"meta":
            part = re.sub(rb'"facts":\{[^{}]*\},', b"", part)
        made += name + b"\n" + part + b"\n"
    return made


def of_text(data, root):
    data = data.replace(os.path.realpath(root).encode(), b"ROOT").replace(root.encode(), b"ROOT")
    data = re.sub(rb'"tokens_per_second": ?(\[[^\]]*\]|[^,}\n]*)', b'"tokens_per_second": -', data)
    return re.sub(rb'"turned( [a-z ]*)?":', rb'"steered\1":', data)  # both spellings are one key


def of_table(data):
    """The numbers of the rows."""
    rows = [line for line in data.decode().splitlines() if re.match(r" *\d", line)]
    return "".join(" ".join(re.findall(r"[-+.e\d]*\d", row)) + "\n" for row in rows).encode()


def content(path, settings, root):
    name = os.path.basename(path)
    if settings and not re.search(r"^(manifest\.json|meta\.json|activations\.h5)$|\.(yaml|txt|table)$", name):
        return None
    if name.endswith(".h5"):
        return of_hdf5(path, settings)
    with open(path, "rb") as f:
        data = f.read()
    if name == "report.html":
        return of_text(of_report(data), root)
    if name.endswith(".table"):
        return of_table(data)
    if re.search(r"\.(json|jsonl|yaml|csv|txt)$", name):
        return of_text(data, root)
    return data if re.search(r"\.(safetensors|pt)$", name) else None


def copy(source, target, root):
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            data = content(path, os.path.basename(source) == "settings", root)
            if data is not None:
                made = os.path.join(target, os.path.relpath(path, source))
                os.makedirs(os.path.dirname(made), exist_ok=True)
                with open(made, "wb") as f:
                    f.write(data)


if sys.argv[1] == "--inputs":
    inputs(sys.argv[2])
else:
    copy(*sys.argv[1:4])
