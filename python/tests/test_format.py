"""Compares docs/reference/store-format.md with files: every object, type, shape, attribute and key, in both
directions."""
import csv
import re
import unittest

import h5py
import numpy as np

from common import HARVESTS, SAES, SOURCE, STORE, activations, load_json, sae_folder
from microw_store import Sae
from microw_store.sae import VARIANTS
from microw_store.safetensors import read_safetensors

ALLOWED = {"name", "note", "named_by", "detection", "frequency_by_source"}  # keys of concepts.json that may be absent in these runs


def tables():
    """Returns {section: [rows of its tables, the first of them the heading]}."""
    found, section = {}, ""
    with open(f"{SOURCE}/docs/reference/store-format.md", encoding="utf-8") as file:
        for line in file:
            if line.startswith("#"):
                section = line.strip("# \n")
            elif line.startswith("|") and not line.startswith("|---"):
                cells = [cell.strip() for cell in line.strip()[1:-1].split("|")]
                if cells[0]:
                    found.setdefault(section, []).append(cells)
                else:  # the row before goes on
                    found[section][-1] = [" ".join((a, b)).strip() for a, b in zip(found[section][-1], cells)]
    return found


def part(rows, heading):
    """Returns the rows of the table whose first column has this name."""
    names = [r[0] for r in rows]
    start = names.index(heading)
    headings = {"data set", "attribute", "tensor", "key", "variant", "column"}
    end = next((i for i in range(start + 1, len(rows)) if names[i] in headings), len(rows))
    return rows[start + 1:end]


def keys(rows):
    """Returns the names in backticks of the first column."""
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


def type_of(dtype):
    if dtype.kind == "S":
        return "text"
    return {"u": "u", "i": "i", "f": "f"}[dtype.kind] + str(8 * dtype.itemsize)


def contents(path, sites=()):
    """Returns ({data set: (type, shape)}, {(attribute, object): type}), with SITE for each site."""
    sets, attributes = {}, {}

    def general(name):
        for site in sites:
            name = name.replace(f"sites/{site}", "sites/SITE")
        return name

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            sets.setdefault(general(name), set()).add((type_of(item.dtype), item.shape))
            assert item.chunks is None and item.id.get_offset() is not None, name
        for key in item.attrs:
            attributes[key, general(name) or "root"] = type_of(item.attrs.get_id(key).dtype)

    with h5py.File(path, "r") as file:
        take("", file)
        file.visititems(take)
    return sets, attributes


def value_of(text, sizes):
    """Returns the value of a number, a name, or an expression of names with `+1` and `*`; None for an unknown name."""
    try:
        return int(eval(text, {}, sizes))  # noqa: S307
    except NameError:
        return None


class Format(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tables = tables()

    def compare(self, path, rows, types, sites=()):
        sets, attributes = contents(path, sites)
        described = {keys([r])[0]: r for r in part(rows, "data set")}
        self.assertEqual(set(sets), set(described))
        sizes = {}
        # single names first, so that V+1 can be computed
        for name, row in sorted(described.items(), key=lambda item: "+" in item[1][2]):
            wanted = row[2].strip("`[]").split(", ")
            for kind, shape in sets[name]:
                self.assertEqual(kind, types.get(row[1], row[1].strip("`")), name)
                self.assertEqual(len(shape), len(wanted), name)
                for text, size in zip(wanted, shape):
                    known = value_of(text, sizes)
                    if known is None and text.isidentifier():
                        sizes[text] = size
                    elif known is None:  # "V+1"
                        sizes[text.split("+")[0]] = size - 1
                    else:
                        self.assertEqual(known, size, f"{name}: {text}")
        said = {(keys([r])[0], keys([[r[1]]])[0] if "`" in r[1] else r[1]): r[2].strip("`") for r in part(rows, "attribute")}
        self.assertEqual(attributes, said)

    def test_activations(self):
        for name in HARVESTS:
            stored = {"bf16": "u16", "f16": "f16", "f32": "f32"}[name.split("-")[0]]
            path = f"{activations(name)}/activations.h5"
            self.compare(path, self.tables["activations.h5"], {"by `dtype`": stored}, ("1.resid_post", "2.mlp_out"))
            self.assertEqual(set(load_json(f"{activations(name)}/meta.json")), set(keys(part(self.tables["meta.json"], "key"))))

    def test_discovery(self):
        rows = self.tables["discovery.h5"]
        for name in ("topk", "several"):
            self.compare(f"{sae_folder(name)}/discovery.h5", rows, {})

    def test_sae(self):
        rows, found, tensors = self.tables["The SAE"], set(), set()
        for name in SAES:
            found |= set(load_json(f"{sae_folder(name)}/cfg.json"))
            weights = read_safetensors(f"{sae_folder(name)}/sae.safetensors")
            self.assertEqual(list(weights), list(Sae.load(sae_folder(name)).weights))
            tensors |= set(weights)
        self.assertEqual(found, set(keys(part(rows, "key"))))
        self.assertEqual(tensors, set(keys(part(rows, "tensor"))))
        sae = Sae.load(sae_folder("skip"))
        sizes = {"n": sae.n_latents, "d_in": sae.d_in, "d_out": sae.d_out}
        for row in part(rows, "tensor"):
            name = keys([row])[0]
            if name in sae.weights:
                self.assertEqual(sae.weights[name].shape, tuple(value_of(t, sizes) for t in row[1].strip("`[]").split(", ")))
        self.assertEqual(set(keys(part(rows, "variant"))), set(VARIANTS))

    def test_concepts(self):
        wanted, found = set(keys(part(self.tables["concepts.json"], "key"))), set()
        for latent in load_json(f"{sae_folder('topk')}/concepts.json")["latents"]:
            found |= set(latent)
        self.assertEqual(found | ALLOWED, wanted)

    def test_names(self):
        with open(f"{sae_folder('topk')}/names.csv", newline="", encoding="utf-8") as file:
            self.assertEqual(next(csv.reader(file)), keys(part(self.tables["names.csv"], "column")))

    def test_manifest(self):
        wanted = set(keys(part(self.tables["manifest.json"], "key")))
        stages = load_json(f"{STORE}/runs/topk/manifest.json")["stages"]
        self.assertEqual(set(stages), {"train", "discover", "evaluate"})
        for stage in stages.values():
            self.assertEqual(set(stage), wanted)

    def test_identities(self):
        """The page's statements about numbers: block sums give the means; rows of blocks and sequences are
        contiguous."""
        with h5py.File(f"{activations('bf16-packed')}/activations.h5", "r") as file:
            row, site = file["blocks/row"][...], file["sites/1.resid_post"]
            self.assertEqual((row[0], row[-1]), (0, len(file["tokens/ids"])))
            np.testing.assert_allclose(site["block_sum"][...].sum(axis=0) / row[-1], site["mean"][...], rtol=1e-12)
            np.testing.assert_allclose(site["block_norm"][...].sum(axis=0) / row[-1], [site["norm_mean"][0], site["square_mean"][0]], rtol=1e-12)
            offset, length = file["sequences/offset"][...], file["sequences/length"][...]
            np.testing.assert_array_equal(offset[1:], (offset + length)[:-1])


if __name__ == "__main__":
    unittest.main()
