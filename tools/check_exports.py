"""Loads exports of microw with SAELens, sparsify and dictionary_learning and compares codes and reconstructions.

    tools/peers_venv.sh DIR
    DIR/bin/python tools/check_exports.py --microw build/microw

Trains a small SAE of every variant, and transcoders, on the demo model, and exports each in every format that
supports it. The active latents of every row must be equal, and values and reconstructions must agree within 1e-5 of
their scale: f32 sums in another order. Also writes SAEs with SAELens and sparsify and reads them with `microw
import`; --keep DIR stores these as fixtures of the tests.
"""
import argparse
import json
import os
import shutil
import subprocess
import tempfile

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its decoder kernel needs a GPU; the eager decoder computes the same sum

import torch
from safetensors.torch import load_file, save_file

TOP, ABOVE, ALL = {"saelens", "sparsify", "dictionary_learning"}, {"saelens", "dictionary_learning"}, {"saelens"}
TRANSCODER = ["sae.site=2.resid_mid", "sae.target=2.mlp_out"]
# name: settings, formats that support it
MODELS = {
    "topk": (["sae.variant=topk"], TOP),
    "batch_topk": (["sae.variant=batch_topk"], ABOVE),
    "multi_topk": (["sae.variant=multi_topk"], TOP),
    "matryoshka_topk": (["sae.variant=matryoshka_topk"], TOP),
    "matryoshka_batch_topk": (["sae.variant=matryoshka_batch_topk", "sae.groups=[64, 192]"], ABOVE),
    "relu": (["sae.variant=relu"], ABOVE),
    "jump_relu": (["sae.variant=jump_relu"], ABOVE),
    "gated": (["sae.variant=gated"], ABOVE),
    "relu-transcoder": (["sae.variant=relu"] + TRANSCODER, ALL),
    "relu-skip": (["sae.variant=relu", "sae.skip=true"] + TRANSCODER, ALL),
    "jump-transcoder": (["sae.variant=jump_relu"] + TRANSCODER, ALL),
    "batch-skip": (["sae.variant=batch_topk", "sae.skip=true"] + TRANSCODER, ALL),
    "topk-transcoder": (["sae.variant=topk"] + TRANSCODER, {"sparsify"}),
    "topk-skip": (["sae.variant=topk", "sae.skip=true"] + TRANSCODER, {"sparsify"}),
    "crosscoder": (["sae.sites=[2.resid_mid, 2.mlp_out]"], set()),
}


def config(folder):
    with open(os.path.join(folder, "cfg.json"), encoding="utf-8") as f:
        return json.load(f)


def reference(folder, x):
    """Returns codes [rows, n] and reconstructions [rows, d_out] of a microw SAE."""
    w, c = load_file(os.path.join(folder, "sae.safetensors")), config(folder)
    a = (x if "d_out" in c else x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    if c["variant"] == "gated":
        z = (a > 0) * torch.relu(w["r_mag"].exp() * (a - w["b_enc"]) + w["b_mag"])
    elif c["variant"] == "jump_relu":
        z = a * (a > w["threshold"])
    elif "threshold" in c:
        z = a * (a > c["threshold"])
    elif "k" in c:
        top = a.topk(c["k"], dim=1)
        z = torch.zeros_like(a).scatter(1, top.indices, torch.relu(top.values))
    else:
        z = torch.relu(a)
    skip = x @ w["W_skip"].T if "W_skip" in w else 0
    return z, z @ w["W_dec"] + w["b_dec"] + skip


def compare(name, z, x_hat, z_ref, x_ref):
    """Compares codes and reconstructions, except in the few rows with a latent within rounding of its threshold."""
    z, x_hat = z.detach().float(), x_hat.detach().float()
    other = (z > 0) != (z_ref > 0)
    assert other.float().mean() < 1e-5, f"{name}: different latents are active"
    same = ~other.any(1)
    dz = ((z - z_ref)[same].abs().max() / z_ref.abs().max()).item()
    dx = ((x_hat - x_ref)[same].abs().max() / x_ref.abs().max()).item()
    print(f"{name}: largest relative difference of latents {dz:.1e}, of reconstructions {dx:.1e}", flush=True)
    assert dz < 1e-5 and dx < 1e-5, name


# ---- exports


def load_saelens(folder):
    from sae_lens import SAE
    sae = SAE.load_from_disk(folder)
    print("  saelens:", sae.cfg.architecture(), sae.cfg.metadata.hook_name, flush=True)

    def run(x):
        z = sae.encode(x)
        return z, sae(x)
    return run


def load_sparsify(folder):
    from sparsify import SparseCoder
    sae = SparseCoder.load_from_disk(folder)

    def run(x):
        e = sae.encode(x)
        z = torch.zeros(len(x), sae.num_latents).scatter(1, e.top_indices, e.top_acts)
        x_hat = sae.decode(e.top_acts, e.top_indices)  # forward() of a multi-TopK SAE returns that of 4 k latents
        return z, x_hat if sae.W_skip is None else sae(x).sae_out
    return run


def load_dictionary_learning(folder):
    from dictionary_learning.utils import load_dictionary
    torch.load(os.path.join(folder, "ae.pt"), weights_only=True)
    torch.load(os.path.join(folder, "ae.pt"), weights_only=True, mmap=True)
    sae, _ = load_dictionary(folder, device="cpu")
    print("  dictionary_learning:", type(sae).__name__, flush=True)

    def run(x):
        has_threshold = type(sae).__name__ in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
        z = sae.encode(x, use_threshold=True) if has_threshold else sae.encode(x)
        return z, sae.decode(z)
    return run


LOADERS = {"saelens": load_saelens, "sparsify": load_sparsify, "dictionary_learning": load_dictionary_learning}


def microw(args, *command, check=True):
    return subprocess.run([args.microw, *command], check=check, capture_output=True, text=True)


def train_models(args):
    common = ["configs/quickstart.yaml", "--set", f"store={args.work}/store", "--set", "dataset.limit_documents=1500",
              "--set", "harvest.sites=[2.resid_post, 2.resid_mid, 2.mlp_out]"]
    microw(args, "harvest", *common)
    folders = {}
    for name, (settings, formats) in MODELS.items():
        os.symlink(f"{args.work}/store/activations/quickstart", f"{args.work}/store/activations/{name}")
        settings = settings + ["sae.n_latents=256", "train.tokens=100_000", f"name={name}"]
        sets = [part for s in settings for part in ("--set", s)]
        microw(args, "train", *common, *sets)
        folders[name] = f"{args.work}/store/sae_models/{name}"
    return folders


def check_exports(args):
    for name, folder in train_models(args).items():
        c, formats = config(folder), MODELS[name][1]
        x = torch.randn(256, c["d_in"], generator=torch.Generator().manual_seed(1)) * 2
        if "d_out" not in c:
            x += load_file(os.path.join(folder, "sae.safetensors"))["b_dec"]
        z_ref, x_ref = reference(folder, x)
        for kind, load in LOADERS.items():
            out = os.path.join(args.work, "exports", name, kind)
            done = microw(args, "export", "--sae", folder, "--format", kind, "--out", out, check=False)
            if kind not in formats:
                assert done.returncode and " has no " in done.stderr, f"{name}: expected a refusal by {kind}"
                continue
            assert done.returncode == 0, done.stderr
            compare(f"{name} as {kind}", *load(out)(x), z_ref, x_ref)


# ---- imports


def randomize(module):
    generator = torch.Generator().manual_seed(4)
    for name, parameter in module.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
        if "threshold" in name:
            parameter.data = parameter.data.abs()


def write_saelens(folder, kind, **extra):
    import sae_lens.saes as saes
    from sae_lens import SAE
    from sae_lens.saes.sae import SAEMetadata
    sae = getattr(saes, kind)(getattr(saes, kind + "Config")(
        d_in=12, d_sae=40, metadata=SAEMetadata(hook_name="blocks.3.hook_resid_post", model_name="tiny"), **extra))
    randomize(sae)
    sae.save_model(folder)
    return SAE.load_from_disk(folder)


def write_sparsify(folder, **extra):
    from sparsify import SparseCoder, SparseCoderConfig
    sae = SparseCoder(12, SparseCoderConfig(num_latents=40, k=4, normalize_decoder=False, **extra))
    randomize(sae)
    sae.save_to_disk(folder)
    return SparseCoder.load_from_disk(folder)


def check_import(args, tool, name, write, **extra):
    folder, back = os.path.join(args.work, "imports", name), os.path.join(args.work, "imports", name + "-back")
    write(folder, **extra)
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(6))
    z, x_hat = LOADERS[tool](folder)(x)
    done = microw(args, "import", "--from", folder, "--format", tool, "--out", back, check=False)
    assert done.returncode == 0, done.stderr
    z_ref, x_ref = reference(back, x)
    z, x_hat = z.detach().float(), x_hat.detach().float()
    compare(f"import {name}", z_ref, x_ref, z, x_hat)
    if args.keep:
        kept = os.path.join(args.keep, name)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        save_file({"x": x, "z": z.contiguous(), "x_hat": x_hat.contiguous()}, os.path.join(kept, "golden.safetensors"))


def check_imports(args):
    top = dict(kind="TopKSAE", k=4, rescale_acts_by_decoder_norm=False)
    check_import(args, "saelens", "saelens", write_saelens, **top)
    check_import(args, "saelens", "saelens-no-b-dec", write_saelens, **dict(top, apply_b_dec_to_input=False))
    check_import(args, "saelens", "saelens-rescaled", write_saelens, **dict(top, rescale_acts_by_decoder_norm=True))
    check_import(args, "saelens", "saelens-standard", write_saelens, kind="StandardSAE")
    check_import(args, "saelens", "saelens-jumprelu", write_saelens, kind="JumpReLUSAE", apply_b_dec_to_input=False)
    check_import(args, "saelens", "saelens-gated", write_saelens, kind="GatedSAE")
    check_import(args, "saelens", "saelens-gated-no-b-dec", write_saelens, kind="GatedSAE", apply_b_dec_to_input=False)
    for name, kind in (("transcoder", "Transcoder"), ("skip-transcoder", "SkipTranscoder"),
                       ("jumprelu-transcoder", "JumpReLUTranscoder"), ("jumprelu-skip", "JumpReLUSkipTranscoder")):
        check_import(args, "saelens", f"saelens-{name}", write_saelens, kind=kind, d_out=9, apply_b_dec_to_input=False)
    check_import(args, "sparsify", "sparsify", write_sparsify)
    check_import(args, "sparsify", "sparsify-transcoder", write_sparsify, transcode=True)
    check_import(args, "sparsify", "sparsify-skip", write_sparsify, transcode=True, skip_connection=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microw", default="build/microw")
    parser.add_argument("--keep")
    args = parser.parse_args()
    args.work = tempfile.mkdtemp()
    check_imports(args)
    check_exports(args)
    shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
