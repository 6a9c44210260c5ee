"""Parts that the tests share: the store that tests/python/reader.sh has made, and microw's own description of it."""
import json
import os
import shutil
import tempfile
import unittest

STORE = os.environ.get("MICROW_READER_STORE", "")
SOURCE = os.environ.get("MICROW_SOURCE", ".")
SAES = ("topk", "batch_topk", "multi_topk", "matryoshka_topk", "matryoshka_batch_topk", "relu", "jump_relu", "gated",
        "transcoder", "skip", "crosscoder", "crosscoder_relu", "f16", "f32-packed", "several")
HARVESTS = ("bf16", "bf16-packed", "f16", "f16-packed", "f32", "f32-packed")
SITES = ("1.resid_post", "2.mlp_out")


def activations(name):
    return f"{STORE}/activations/{name}"


def activations_of(sae):
    """Returns the harvests that an SAE was trained on."""
    if sae == "several":
        return [activations("bf16"), activations("bf16-packed")]
    return activations(sae if sae in HARVESTS else "bf16")


def sae_folder(name):
    return f"{STORE}/sae_models/{name}"


def load_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def has_torch():
    try:
        import torch  # noqa: F401
        return True
    except ImportError:
        return False


class FolderCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="microw-reader-")
        self.addCleanup(shutil.rmtree, self.folder)

    def copy(self, path):
        to = os.path.join(self.folder, os.path.basename(path))
        return shutil.copytree(path, to) if os.path.isdir(path) else shutil.copy(path, to)
