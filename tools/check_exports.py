"""Loads what `microw export` writes with the real libraries and compares latents and reconstructions.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install -r tools/requirements-peers.txt
    /tmp/peers/bin/python tools/check_exports.py --microw build/microw --sae store/sae_models/quickstart

Latents must be the same set for every vector, values and reconstructions equal within 1e-5 of their scale: f32 sums in
another order. Also writes SAEs with SAELens and sparsify themselves and reads them with `microw import`; with --keep DIR
small ones are left there as fixtures for the tests.
"""
import argparse
import json
import os
import shutil
import subprocess
import tempfile

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its decoder's kernel needs a GPU; the eager one is the same sum

import torch
from safetensors.torch import load_file, save_file


def config(folder):
    with open(os.path.join(folder, "cfg.json"), encoding="utf-8") as f:
        return json.load(f)


def reference(folder, x):
    """codes [rows, n] and reconstructions of a microw SAE."""
    w = load_file(os.path.join(folder, "sae.safetensors"))
    a = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    if config(folder)["variant"] == "batch_topk":
        z = a * (a > config(folder)["threshold"])
    else:
        top = a.topk(config(folder)["k"], dim=1)
        z = torch.zeros_like(a).scatter(1, top.indices, torch.relu(top.values))
    return z, z @ w["W_dec"] + w["b_dec"]


def compare(name, z, x_hat, z_ref, x_ref):
    z, x_hat = z.detach().float(), x_hat.detach().float()
    assert ((z > 0) == (z_ref > 0)).all(), f"{name}: other latents are active"
    dz = ((z - z_ref).abs().max() / z_ref.abs().max()).item()
    dx = ((x_hat - x_ref).abs().max() / x_ref.abs().max()).item()
    print(f"{name}: largest relative difference of latents {dz:.1e}, of reconstructions {dx:.1e}")
    assert dz < 1e-5 and dx < 1e-5, name


def export(args, kind):
    folder = os.path.join(args.work, kind)
    subprocess.run([args.microw, "export", "--sae", args.sae, "--format", kind, "--out", folder], check=True,
                   stdout=subprocess.DEVNULL)
    return folder


def check_saelens(args, x, z_ref, x_ref):
    from sae_lens import SAE
    sae = SAE.load_from_disk(export(args, "saelens"))
    z = sae.encode(x)
    compare("saelens", z, sae.decode(z), z_ref, x_ref)
    print("saelens hook:", sae.cfg.metadata.hook_name)


def check_sparsify(args, x, z_ref, x_ref):
    from sparsify import SparseCoder
    sae = SparseCoder.load_from_disk(export(args, "sparsify"))
    encoded = sae.encode(x)
    z = torch.zeros_like(z_ref).scatter(1, encoded.top_indices, encoded.top_acts)
    compare("sparsify", z, sae.decode(encoded.top_acts, encoded.top_indices), z_ref, x_ref)


def check_dictionary_learning(args, x, z_ref, x_ref):
    from dictionary_learning.utils import load_dictionary
    folder = export(args, "dictionary_learning")
    torch.load(os.path.join(folder, "ae.pt"), weights_only=True)
    torch.load(os.path.join(folder, "ae.pt"), weights_only=True, mmap=True)
    sae, _ = load_dictionary(folder, device="cpu")
    z = sae.encode(x) if config(args.sae)["variant"] == "topk" else sae.encode(x, use_threshold=True)
    compare("dictionary_learning", z, sae.decode(z), z_ref, x_ref)


def write_saelens(folder, rescale, apply_b_dec):
    from sae_lens import SAE, TopKSAE, TopKSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    config = TopKSAEConfig(d_in=12, d_sae=40, k=4, rescale_acts_by_decoder_norm=rescale, apply_b_dec_to_input=apply_b_dec,
                           metadata=SAEMetadata(hook_name="blocks.3.hook_resid_post", model_name="tiny"))
    sae = TopKSAE(config)
    randomize(sae)
    sae.save_model(folder)
    return SAE.load_from_disk(folder)


def write_sparsify(folder):
    from sparsify import SparseCoder, SparseCoderConfig
    sae = SparseCoder(12, SparseCoderConfig(num_latents=40, k=4, normalize_decoder=False))
    randomize(sae)
    sae.save_to_disk(folder)
    return SparseCoder.load_from_disk(folder)


def randomize(module):
    generator = torch.Generator().manual_seed(4)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5


def check_import(args, kind, name, write, encode):
    folder, back = os.path.join(args.work, name), os.path.join(args.work, name + "-back")
    sae = write(folder)
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(6))
    z, x_hat = encode(sae, x)
    subprocess.run([args.microw, "import", "--from", folder, "--format", kind, "--out", back], check=True,
                   stdout=subprocess.DEVNULL)
    z_ref, x_ref = reference(back, x)
    z, x_hat = z.detach().float(), x_hat.detach().float()
    compare(f"import {name}", z_ref, x_ref, z, x_hat)
    if args.keep:
        kept = os.path.join(args.keep, name)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        save_file({"x": x, "z": z.contiguous(), "x_hat": x_hat.contiguous()}, os.path.join(kept, "golden.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--microw", default="build/microw")
    parser.add_argument("--sae", required=True)
    parser.add_argument("--keep")
    args = parser.parse_args()
    args.work = tempfile.mkdtemp()
    w = load_file(os.path.join(args.sae, "sae.safetensors"))
    x = w["b_dec"] + torch.randn(256, len(w["b_dec"]), generator=torch.Generator().manual_seed(1)) * 2
    z_ref, x_ref = reference(args.sae, x)
    check_saelens(args, x, z_ref, x_ref)
    if config(args.sae)["variant"] == "topk":
        check_sparsify(args, x, z_ref, x_ref)
    check_dictionary_learning(args, x, z_ref, x_ref)

    def dense(sae, v):
        z = sae.encode(v)
        return z, sae.decode(z)

    def sparse(sae, v):
        e = sae.encode(v)
        return torch.zeros(len(v), 40).scatter(1, e.top_indices, e.top_acts), sae.decode(e.top_acts, e.top_indices)

    check_import(args, "saelens", "saelens", lambda f: write_saelens(f, False, True), dense)
    check_import(args, "saelens", "saelens-no-b-dec", lambda f: write_saelens(f, False, False), dense)
    check_import(args, "saelens", "saelens-rescaled", lambda f: write_saelens(f, True, True), dense)
    check_import(args, "sparsify", "sparsify", write_sparsify, sparse)
    shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
