"""Codes and reconstructions, compared with microw's own results: its evaluation over all rows, and in discovery.h5 the
activations of each latent on every token shown."""
import json
import os
import unittest

import numpy as np

from common import SAES, STORE, FolderCase, activations, activations_of, load_json, sae_folder
from microw_store import Codes, Discovery, Sae, Store, StoreError, read_names

# microw sums products in another order: a pre-activation of size 10 differs by about 1e-6.
NEAR = 5e-5


def share(part, whole):
    return float(part.astype(np.float64).ravel() @ part.astype(np.float64).ravel()) / whole


class Against(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = {}
        for name in SAES:
            store, sae = Store(activations_of(name)), Sae.load(sae_folder(name))
            x = store[sae.site][:]
            cls.all[name] = store, sae, x, sae.encode(x)

    def test_evaluation(self):
        for name, (store, sae, x, z) in self.all.items():
            with self.subTest(name):
                said = load_json(f"{STORE}/runs/{name}/evaluate.json")
                y = store[sae.target or sae.site][:]
                e, spread = y - sae.reconstruct(x), y - y.mean(axis=0, dtype=np.float64)
                whole = float((spread ** 2).sum())
                self.assertEqual(said["rows"], store.rows)
                # Sums of 1e6 squares in another order, printed with nine digits. Where matrix products round differently from
                # microw's, a few latents are on the other side of their threshold: each can change the error of its row.
                active = (z > 0).sum(axis=0)
                flips = int(np.abs(active - Discovery(sae_folder(name)).count).sum())
                self.assertLessEqual(flips, 1e-4 * active.sum())
                near = 2e-6 + 4 * flips / store.rows
                self.assertAlmostEqual(share(e, whole) / said["fvu"], 1, delta=near)
                self.assertAlmostEqual(1 - share(e - e.mean(axis=0), whole), said["explained_variance"], delta=near)
                self.assertAlmostEqual((z > 0).sum(axis=1).mean() / said["l0"], 1, delta=near)
                self.assertAlmostEqual(z.sum(axis=1, dtype=np.float64).mean() / said["l1"], 1, delta=near)
                self.assertAlmostEqual(int((active == 0).sum()), said["dead"], delta=flips)
                self.assertAlmostEqual(int((active > store.rows / 10).sum()), said["dense"], delta=flips)
                at = 0
                for site, width in zip(said["by_site"], sae.target_widths):
                    part = slice(at, at + width)
                    self.assertAlmostEqual(share(e[:, part], float((spread[:, part] ** 2).sum())) / site["fvu"], 1, delta=near)
                    at += width
                self.assertEqual(at, sae.d_out)

    def border(self, sae, pre):
        """Returns the distance of each pre-activation from the threshold of selection."""
        if sae.variant in ("topk", "multi_topk", "matryoshka_topk"):
            ordered = np.sort(pre, axis=1)
            return np.minimum(np.abs(pre - ordered[:, -sae.k, None]), np.abs(pre - ordered[:, -sae.k - 1, None]))
        if sae.variant == "gated":
            w = sae.weights
            return np.minimum(np.abs(pre), np.abs(np.exp(w["r_mag"]) * (pre - w["b_enc"]) + w["b_mag"]))
        return np.abs(pre - (sae.weights["threshold"] if sae.variant == "jump_relu" else max(sae.threshold, 0)))

    def test_activations(self):
        """Compares activations latent by latent and token by token."""
        seen = 0
        for name, (store, sae, x, z) in self.all.items():
            with self.subTest(name):
                found = Discovery(sae_folder(name))
                self.assertEqual((found.n_latents, found.rows, found.sae), (sae.n_latents, store.rows, sae.fingerprint))
                row, start = found["texts/row"].ravel(), found["texts/start"]
                length = np.diff(start)
                latent = np.repeat(np.repeat(np.arange(sae.n_latents), found["texts/row"].shape[1]), length)
                first = np.repeat(row - found["texts/center"].ravel() - start[:-1], length)
                rows = first + np.arange(start[-1])
                theirs, mine = found["texts/activations"], z[rows, latent]
                scale = 1 + np.abs(theirs)
                differ = np.abs(mine - theirs) > NEAR * scale
                seen += len(theirs)
                self.assertLessEqual(differ.mean(), 1e-4)
                if differ.any():  # only for a latent at its threshold
                    border = self.border(sae, sae.pre_activations(x[rows[differ]]))
                    self.assertLessEqual(border[np.arange(len(border)), latent[differ]].max(), NEAR * 10)
                np.testing.assert_array_equal(found["texts/tokens"], store.tokens[rows])
        self.assertGreater(seen, 500_000)

    def test_texts(self):
        """Checks the location and the extent of each text."""
        for name in ("topk", "f32-packed", "several"):
            store, sae, x, z = self.all[name]
            found = Discovery(sae_folder(name))
            concepts = load_json(f"{sae_folder(name)}/concepts.json")
            self.assertEqual([c["latent"] for c in concepts["latents"]], np.flatnonzero(found.count).tolist())
            self.assertEqual(found.scored, ["trained", "untrained", "random", "pca"])
            for known in concepts["categories"]:
                latent, *scores = found.best(known["category"])
                self.assertEqual(latent, known["latent"])
                np.testing.assert_allclose(scores, [known[key] for key in ("precision", "recall", "f1")], rtol=1e-3)
            for concept in concepts["latents"][:60]:
                latent = concept["latent"]
                texts = found.texts(latent)
                self.assertEqual([t.row for t in texts], [t["row"] for t in concept["top_texts"]])
                self.assertAlmostEqual(found.frequency[latent] / concept["frequency"], 1, delta=1e-5)
                self.assertEqual((found.name(latent), found.category(latent)), (concept["name"], concept["category"]))
                self.assertEqual([t for t, _ in found.promoted(latent)], [t for t, _, _ in concept["promoted"]])
                self.assertEqual([n for n, _ in found.alike(latent)], [n for n, _ in concept["alike"]])
                self.assertEqual([n for n, _ in found.coactive(latent)], [n for n, _ in concept["together"]])
                for text, said in zip(texts, concept["top_texts"]):
                    self.assertEqual((text.before, text.token, text.after), (said["before"], said["token"], said["after"]))
                    self.assertEqual((text.document, text.position), (store.document_of(text.row), store.position_of(text.row)))
                    span = store.span_of(text.row)
                    wanted = range(max(span.start, text.row - found.around), min(span.stop, text.row + found.around + 1))
                    self.assertEqual(text.rows, wanted)
                    self.assertEqual(store.text(slice(wanted.start, wanted.stop)), text.before + text.token + text.after)
                for text in found.sampled_texts(latent):
                    self.assertAlmostEqual(z[text.row, latent] / text.activation, 1, delta=1e-4)
                # the strongest rows are the strongest of all rows
                self.assertAlmostEqual(z[:, latent].max() / found.max[latent], 1, delta=1e-5)

    def test_histograms(self):
        store, sae, x, z = self.all["relu"]
        found = Discovery(sae_folder("relu"))
        moved = 0
        for latent in range(sae.n_latents):
            edges, counts = found.histogram(latent)
            if found.count[latent]:
                active = z[:, latent][z[:, latent] > 0]
                moved += np.abs(np.histogram(active, edges)[0] - counts).sum()
            self.assertEqual(counts.sum(), found.count[latent])
        self.assertLessEqual(moved, 1e-4 * found.count.sum())  # values at the edge of a bin

    def test_sparse(self):
        for name, (store, sae, x, z) in self.all.items():
            codes = sae.encode_sparse(x[:3000])
            np.testing.assert_array_equal(codes.dense(), z[:3000])
            np.testing.assert_array_equal(codes.start, np.concatenate([[0], np.cumsum((z[:3000] > 0).sum(axis=1))]))
            index, value = codes.row(7)
            np.testing.assert_array_equal(index, np.flatnonzero(z[7]))
            np.testing.assert_array_equal(value, z[7][z[7] > 0])
            np.testing.assert_array_equal(sae.decode(codes, x[:3000]), sae.decode(z[:3000], x[:3000]))
            np.testing.assert_allclose(sae.reconstruct(x[:3000]), sae.decode(z[:3000], x[:3000]), rtol=0, atol=1e-4)
        self.assertEqual(len(self.all["topk"][1].encode_sparse(np.empty((0, 128), np.float32))), 0)

    def test_arguments(self):
        store, sae, x, z = self.all["skip"]
        self.assertRaisesRegex(ValueError, "needs x besides", sae.decode, z[:3])
        self.assertRaisesRegex(ValueError, r"expected \[rows, 128\]", sae.encode, x[:, :5])
        bad = x[:5].copy()
        bad[3, 2] = np.nan
        self.assertRaisesRegex(ValueError, "row 3 is not finite", sae.encode, bad)


class Ties(unittest.TestCase):
    def test_lower_latents_win(self):
        from microw_store.sae import _largest
        pre = np.array([[1, 3, 1, 1, 2], [0, 0, 0, 0, 0], [5, 4, 3, 2, 1]], dtype=np.float32)
        np.testing.assert_array_equal(_largest(pre, 3), [[1, 1, 0, 0, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]])
        np.testing.assert_array_equal(_largest(pre, 5), np.ones((3, 5)))

    def test_codes(self):
        codes = Codes(np.array([0, 2, 2]), np.array([1, 3], np.int32), np.array([.5, 2], np.float32), 4)
        np.testing.assert_array_equal(codes.dense(), [[0, .5, 0, 2], [0, 0, 0, 0]])


class Damage(FolderCase):
    def refused(self, text, change=None, name="batch_topk"):
        folder = os.path.join(self.folder, name)
        if not os.path.exists(folder):
            self.copy(sae_folder(name))
        if change:
            config = load_json(f"{folder}/cfg.json")
            config.update(change)
            with open(f"{folder}/cfg.json", "w") as file:
                json.dump(config, file)
        self.assertRaisesRegex(StoreError, text, Sae.load, folder)
        return folder

    def test_configuration(self):
        for change, text in (({"threshold": 0.5}, "its hash differs"), ({"k": 9}, "its hash differs"),
                             ({"variant": "topk"}, "its hash differs"), ({"version": 3}, "format version 3"),
                             ({"d_in": None}, "d_in: expected a whole number above 0, found None"), ({"k": 0}, "k: expected a whole number above 0, found 0"), ({"variant": "vq"}, "variant 'vq'; this reader knows topk"), ({"n_latents": 255}, r"expected shape \[255, 128\]"),
                             ({"format": "other", "architecture": "topk"}, "not the configuration of a microw SAE, perhaps that of SAELens")):
            with self.subTest(change):
                self.refused(text, change)
                os.rename(f"{self.folder}/batch_topk", f"{self.folder}/{len(os.listdir(self.folder))}")

    def test_weights(self):
        self.copy(sae_folder("gated"))
        path = f"{self.folder}/gated/sae.safetensors"
        with open(path, "rb") as file:
            data = bytearray(file.read())
        data[-1] ^= 1
        for length, text in ((len(data), "its hash differs"), (len(data) - 4, "the header describes"),
                             (5, "not a safetensors file, or truncated")):
            with open(path, "wb") as file:
                file.write(data[:length])
            self.refused(text, name="gated")
        os.remove(path)
        self.refused("No such file", name="gated")

    def test_between_two_files(self):
        """State of a program that ended before the new weights got their name."""
        folder = self.copy(sae_folder("topk"))
        os.rename(f"{folder}/sae.safetensors", f"{folder}/sae.safetensors.partial")
        with open(f"{sae_folder('f16')}/sae.safetensors", "rb") as old, open(f"{folder}/sae.safetensors", "wb") as new:
            new.write(old.read())
        np.testing.assert_array_equal(Sae.load(folder).weights["W_dec"], Sae.load(sae_folder("topk")).weights["W_dec"])

    def test_half_precision(self):
        """Weights in bf16 and f16, as other programs write them, without a hash in cfg.json."""
        whole = Sae.load(sae_folder("relu"))
        for kind, stored, widen in (("BF16", lambda w: (w.view(np.uint32) >> 16).astype(np.uint16), lambda b: (b.astype(np.uint32) << 16).view(np.float32)),
                                    ("F16", lambda w: w.astype(np.float16), lambda b: b.astype(np.float32))):
            folder = self.copy(sae_folder("relu"))
            config = load_json(f"{folder}/cfg.json")
            del config["weights"]
            header, body = {}, b""
            for name, w in whole.weights.items():
                bits = stored(w).tobytes()
                header[name] = {"dtype": kind, "shape": list(w.shape), "data_offsets": [len(body), len(body) + len(bits)]}
                body += bits
            text = json.dumps(header).encode()
            with open(f"{folder}/sae.safetensors", "wb") as file:
                file.write(len(text).to_bytes(8, "little") + text + body)
            with open(f"{folder}/cfg.json", "w") as file:
                json.dump(config, file)
            loaded = Sae.load(folder)
            for name, w in whole.weights.items():
                np.testing.assert_array_equal(loaded.weights[name], widen(stored(w)))
            os.rename(folder, folder + kind)

    def test_discovery(self):
        self.assertRaisesRegex(StoreError, "no such file", Discovery, self.folder)
        self.assertRaisesRegex(StoreError, "not a discovery", Discovery, activations("bf16") + "/activations.h5")
        self.assertRaisesRegex(KeyError, "it has .*latents/count", lambda: Discovery(sae_folder("topk"))["latents/none"])

    def test_names(self):
        path = f"{self.folder}/names.csv"
        with open(path, "w", encoding="utf-8") as file:
            file.write('latent,name,note,by,score\n3,"a ""b"", c","n",me,0.75\n4,"",,,\n')
        names = read_names(path)
        self.assertEqual((names[3].name, names[3].note, names[3].by, names[3].score, list(names)), ('a "b", c', "n", "me", 0.75, [3]))
        with open(path, "w", encoding="utf-8") as file:
            file.write("3,one\n3,two\n")
        self.assertRaisesRegex(StoreError, "latent 3 is named twice", read_names, path)


if __name__ == "__main__":
    unittest.main()
