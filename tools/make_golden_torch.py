"""Makes files of torch.save for tests/golden/torch.

    python tools/make_golden_torch.py --models tests/golden/models --out tests/golden/torch

tensors.bin and tensors_old.bin (the format before torch 1.6) hold one state dict with every type of storage, views and
tied tensors; tensors.safetensors has the same numbers. gpt_neo has the layout of TinyStories: one file, with the masks
of transformers 4; llama has shards in both formats and a transposed matrix. Their weights are those of the golden models
of the same names, and transformers must compute the same logits from both folders. refused/ holds files that must not be
read.
"""
import argparse
import collections
import io
import json
import os
import pickle
import shutil
import zipfile

import torch
from safetensors.torch import load_file, save_file
import transformers as tf

REFUSED = {}


def refused(function):
    REFUSED[function.__name__] = function
    return function


def tensors():
    generator = torch.Generator().manual_seed(5)
    whole = torch.randn(6, 8, generator=generator)
    state = collections.OrderedDict()
    state["f32"] = whole
    state["tied"] = whole
    state["rows"] = whole[2:5]
    state["transposed"] = whole.t()
    state["columns"] = whole[:, 3:6]
    state["every_second"] = whole[::2, ::3]
    state["permuted"] = torch.randn(2, 3, 4, generator=generator).permute(2, 0, 1)
    state["five"] = torch.zeros(1, 2, 1, 2, 3)
    state["five_permuted"] = torch.zeros(1, 2, 1, 2, 3).permute(4, 3, 2, 1, 0)
    state["scalar"] = torch.tensor(-1e9)
    state["empty"] = torch.zeros(0, 4)
    state["one_row"] = torch.randn(1, 5, generator=generator).expand(1, 5)
    state["parameter"] = torch.nn.Parameter(torch.randn(3, generator=generator))
    for name, kind in {"f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}.items():
        state[name] = torch.randn(5, 3, generator=generator).to(kind)
        state[name + ".t"] = state[name].t()
    for name, kind in {"i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8,
                       "u8": torch.uint8}.items():
        state[name] = torch.randint(0, 100, (4, 2), generator=generator).to(kind)
    state["bool"] = torch.tensor([True, False, True])
    state["c64"] = torch.zeros(2, dtype=torch.complex64)
    state["f8"] = torch.ones(4, dtype=torch.float8_e4m3fn)
    state["u16"] = torch.ones(4, dtype=torch.uint16)
    state["u32"] = torch.tensor([1, 2, 3], dtype=torch.uint32)
    state["_note"] = "not a tensor"
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


def write_tensors(out):
    state = tensors()
    torch.save(state, os.path.join(out, "tensors.bin"))
    torch.save(state, os.path.join(out, "tensors_old.bin"), _use_new_zipfile_serialization=False)
    kept = {name: t.detach().clone().contiguous() for name, t in state.items() if isinstance(t, torch.Tensor)}
    save_file(kept, os.path.join(out, "tensors.safetensors"))


def copy_model(models, out, name):
    folder = os.path.join(out, name)
    os.makedirs(folder)
    shutil.copy(os.path.join(models, name, "config.json"), folder)
    return folder, collections.OrderedDict(load_file(os.path.join(models, name, "model.safetensors")))


def check_logits(models, out, name):
    ids = load_file(os.path.join(models, name, "golden.safetensors"))["ids"].long()
    logits = [tf.AutoModelForCausalLM.from_pretrained(os.path.join(root, name), attn_implementation="eager").eval()(
        input_ids=ids).logits for root in (models, out)]
    assert torch.equal(*logits), name


def write_gpt_neo(models, out):
    folder, state = copy_model(models, out, "gpt_neo")
    for layer in range(2):
        name = f"transformer.h.{layer}.attn.attention"
        mask = torch.tril(torch.ones(64, 64, dtype=torch.bool)).view(1, 1, 64, 64)
        state[name + ".bias"] = mask if layer == 0 else torch.bitwise_xor(mask, torch.tril(mask, -4))
        state[name + ".masked_bias"] = torch.tensor(-1e9)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    torch.save(state, os.path.join(folder, "pytorch_model.bin"))
    check_logits(models, out, "gpt_neo")


def write_llama(models, out):
    folder, state = copy_model(models, out, "llama")
    up = "model.layers.0.mlp.up_proj.weight"
    state[up] = state[up].t().contiguous().t()
    names = sorted(state)
    shards = [names[::2], names[1::2]]
    index = {"metadata": {}, "weight_map": {}}
    for i, shard in enumerate(shards):
        file = f"pytorch_model-{i + 1:05}-of-00002.bin"
        torch.save({name: torch.nn.Parameter(state[name]) for name in shard}, os.path.join(folder, file),
                   _use_new_zipfile_serialization=i == 0)
        index["weight_map"].update(dict.fromkeys(shard, file))
    with open(os.path.join(folder, "pytorch_model.bin.index.json"), "w", encoding="utf-8") as file:
        json.dump(index, file)
    check_logits(models, out, "llama")


def saved(what, **options):
    data = io.BytesIO()
    torch.save(what, data, **options)
    return data.getvalue()


def repacked(edit, compression=zipfile.ZIP_STORED, state=None):
    """A state dict whose records `edit` changes: a dict of bytes by name."""
    source = zipfile.ZipFile(io.BytesIO(saved(state or {"a": torch.arange(6.).view(2, 3)})))
    records = {name: source.read(name) for name in source.namelist()}
    edit(records)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as target:
        for name, record in records.items():
            target.writestr(name, record)
    return data.getvalue()


def with_pickle(pickled):
    return repacked(lambda records: records.update({"archive/data.pkl": pickled}))


class Runs:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch /tmp/microw-was-here",)


@refused
def runs_a_command():
    return with_pickle(pickle.dumps({"a": Runs()}, protocol=2))


@refused
def runs_a_command_old():
    return saved({"a": Runs()}, _use_new_zipfile_serialization=False)


@refused
def calls_eval():
    return with_pickle(b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\neval\nX\x05\x00\x00\x001 + 1\x85Rs.")


@refused
def numpy_scalar():
    import numpy
    return saved({"a": numpy.float64(3)})


@refused
def protocol_4():
    return with_pickle(pickle.dumps({"a": 1}, protocol=4))


@refused
def new_object():
    return with_pickle(b"\x80\x02}X\x01\x00\x00\x00accollections\nOrderedDict\n)\x81s.")


@refused
def a_list():
    return saved([torch.zeros(2)])


@refused
def compressed():
    return repacked(lambda records: None, zipfile.ZIP_DEFLATED)


@refused
def big_endian():
    return repacked(lambda records: records.update({"archive/byteorder": b"big"}))


@refused
def program():
    return repacked(lambda records: records.update({"archive/constants.pkl": b"\x80\x02)."}))


@refused
def storage_missing():
    return repacked(lambda records: records.pop("archive/data/0"))


@refused
def storage_short():
    return repacked(lambda records: records.update({"archive/data/0": bytes(20)}))


@refused
def expanded():
    return saved({"a": torch.zeros(1).expand(1 << 40)})


@refused
def beyond_the_storage():
    small = saved({"a": torch.arange(6.).view(2, 3)})
    source = zipfile.ZipFile(io.BytesIO(small)).read("archive/data.pkl")
    return with_pickle(source.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"))


@refused
def offset_beyond():
    source = zipfile.ZipFile(io.BytesIO(saved({"a": torch.arange(6.).view(2, 3)}))).read("archive/data.pkl")
    return with_pickle(source.replace(b"K\x00K\x02K\x03\x86", b"K\x01K\x02K\x03\x86"))


@refused
def negative_stride():
    source = zipfile.ZipFile(io.BytesIO(saved({"a": torch.arange(6.).view(2, 3)}))).read("archive/data.pkl")
    return with_pickle(source.replace(b"K\x03K\x01\x86", b"J\xff\xff\xff\xffK\x01\x86"))


@refused
def twice():
    source = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(2), "b": torch.ones(2)}))).read("archive/data.pkl")
    return repacked(lambda records: records.update({"archive/data.pkl": source.replace(b"\x01\0\0\0b", b"\x01\0\0\0a")}),
                    state={"a": torch.zeros(2), "b": torch.ones(2)})


@refused
def conjugate():
    return saved({"a": torch.zeros(2, dtype=torch.complex64).conj()})


@refused
def bad_sum():
    data = bytearray(saved({"a": torch.full((4,), 1.5)}))
    data[data.index(b"\x00\x00\xc0\x3f" * 4)] ^= 1
    return bytes(data)


@refused
def bad_sum_of_pickle():
    data = bytearray(saved({"name": torch.zeros(4)}))
    data[data.index(b"name")] ^= 1
    return bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    os.makedirs(os.path.join(args.out, "refused"))
    write_tensors(args.out)
    write_gpt_neo(args.models, args.out)
    write_llama(args.models, args.out)
    for name, make in REFUSED.items():
        with open(os.path.join(args.out, "refused", name + ".bin"), "wb") as file:
            file.write(make())


if __name__ == "__main__":
    main()
