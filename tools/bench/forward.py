"""Tokens per second of a forward pass that extracts one site: microw beside transformers with a forward hook,
interleaved in one run; medians. The model is GPT-2 small with random weights, made here, or that of a folder.

    python tools/bench/forward.py [--bench build/tools/bench/bench_forward] [--model DIR] [--device cpu|cuda] [--layer 8] [--batch N]
                                  [--context N] [--rounds N] [--json]

Both run only the layers up to the site: an exception in the hook ends transformers' pass there, as transformer_lens'
stop_at_layer does. The rows are copied to host memory.
Errors are |rows - transformers' rows in f32| / |those|, norms over all rows and dimensions.
"""
import argparse
import json
import statistics
import subprocess
import tempfile
import time

import numpy
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel


class Enough(Exception):
    pass


def make_model(folder):
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder, safe_serialization=True)


def blocks_of(model):
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def theirs(model, ids, layer, device):
    seen = {}

    def hook(_module, _inputs, output):
        seen["x"] = (output[0] if isinstance(output, tuple) else output).float().cpu()
        raise Enough

    handle = blocks_of(model)[layer].register_forward_hook(hook)
    start = time.perf_counter()
    try:
        with torch.inference_mode():
            model(ids)
    except Enough:
        pass
    if device == "cuda":
        torch.cuda.synchronize()
    handle.remove()
    return time.perf_counter() - start, seen["x"]


def ours(a, folder, dtype, *more):
    command = [a.bench, "--model", folder, "--site", f"{a.layer}.resid_post", "--device", a.device, "--dtype", dtype,
               "--batch", str(a.batch), "--context", str(a.context), "--rounds", "3", *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["seconds"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bench", default="build/tools/bench/bench_forward")
    p.add_argument("--model")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--layer", type=int, default=8)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--context", type=int, default=128)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = a.model or scratch
        if not a.model:
            make_model(folder)
        models = {name: AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(a.device)
                  for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16))}
        ids = torch.randint(0, models["f32"].config.vocab_size, (a.batch, a.context), device=a.device)
        times = {f"{tool}_{dtype}": [] for tool in ("transformers", "microw") for dtype in models}
        rows = {f"transformers_{dtype}": theirs(model, ids, a.layer, a.device)[1].flatten() for dtype, model in models.items()}
        numpy.asarray(ids.cpu(), dtype=numpy.int32).tofile(scratch + "/ids")
        for dtype in models:
            ours(a, folder, dtype, "--ids", scratch + "/ids", "--rows", scratch + "/rows")
            rows[f"microw_{dtype}"] = torch.from_numpy(numpy.fromfile(scratch + "/rows", dtype=numpy.float32))
        for _ in range(a.rounds):
            for dtype, model in models.items():
                times[f"transformers_{dtype}"].append(theirs(model, ids, a.layer, a.device)[0])
                times[f"microw_{dtype}"].append(ours(a, folder, dtype))
    tokens = a.batch * a.context
    exact = rows["transformers_f32"].double()
    errors = {name: float((x.double() - exact).norm() / exact.norm()) for name, x in rows.items()}
    rates = {name: tokens / statistics.median(t) for name, t in times.items()}
    result = {"device": a.device, "layer": a.layer, "batch": a.batch, "context": a.context, "torch": torch.__version__,
              "threads": torch.get_num_threads(), **{k: round(v, 1) for k, v in rates.items()},
              "errors": errors,
              "f32_ratio": round(rates["microw_f32"] / rates["transformers_f32"], 3),
              "bf16_ratio": round(rates["microw_bf16"] / rates["transformers_bf16"], 3),
              "bf16_over_their_f32": round(rates["microw_bf16"] / rates["transformers_f32"], 3)}
    if a.json:
        print(json.dumps(result))
        return
    for name, rate in rates.items():
        print(f"{name:20s} {rate:10.0f} tokens/s, relative error {errors[name]:.1e}")
    print(f"microw over transformers: {result['f32_ratio']:.2f} in f32, {result['bf16_ratio']:.2f} in bf16; bf16 over "
          f"transformers' f32: {result['bf16_over_their_f32']:.2f}")


if __name__ == "__main__":
    main()
