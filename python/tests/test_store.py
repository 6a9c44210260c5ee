import os
import shutil
import subprocess
import unittest

import h5py
import numpy as np

from common import HARVESTS, SITES, SOURCE, FolderCase, activations
from microw_store import Store, StoreError
from microw_store.bits import _xxh64_rows, xxh64


def plainly(path, site):
    """Returns values as float32, by h5py alone and with another conversion than the reader's."""
    with h5py.File(f"{path}/activations.h5", "r") as file:
        data = file[f"sites/{site}/values"]
        values = data[...]
        if data.attrs["dtype"] != b"bf16":
            return values.astype(np.float32)
    out = np.zeros(values.shape + (2,), dtype="<u2")
    out[..., 1] = values
    return out.view("<f4")[..., 0]


def rounded_to_bf16(x):
    """Rounds to nearest, ties to even."""
    bits = x.view(np.uint32)
    bits = bits + (0x7FFF + (bits >> 16 & 1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


class Rows(FolderCase):
    def test_all_rows(self):
        for name in HARVESTS:
            store = Store(activations(name))
            self.assertEqual(tuple(store.sites), SITES)
            for site in SITES:
                self.assertEqual(store.kind(site), name[:4].rstrip("-"))
                wanted = plainly(activations(name), site)
                self.assertEqual(store[site].shape, wanted.shape)
                self.assertEqual(store.width(site), wanted.shape[1])
                np.testing.assert_array_equal(store[site][:], wanted)

    def test_types_agree(self):
        """A harvest in bf16 or f16 is the harvest in f32, rounded."""
        for packed in ("", "-packed"):
            exact = Store(activations("f32" + packed))
            for site in SITES:
                x = exact[site][:]
                np.testing.assert_array_equal(Store(activations("bf16" + packed))[site][:], rounded_to_bf16(x))
                np.testing.assert_array_equal(Store(activations("f16" + packed))[site][:], x.astype(np.float16).astype(np.float32))

    def test_h5dump(self):
        if not shutil.which("h5dump"):
            self.skipTest("no h5dump")
        path = activations("f32") + "/activations.h5"
        command = ["h5dump", "-y", "-w", "0", "-m", "%.9g", "-d", "/sites/2.mlp_out/values", "-s", "7,0", "-c", "2,128", path]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        numbers = text.split("DATA {")[1].split("}")[0].replace(",", " ").split()
        wanted = np.array([float(n) for n in numbers], dtype=np.float32).reshape(2, 128)
        np.testing.assert_array_equal(Store(path)["2.mlp_out"][7:9], wanted)

    def check_indexing(self, array, whole):
        n = len(whole)
        random = np.random.default_rng(0)
        some = random.integers(-n, n, 50)
        for key in (5, -1, np.int64(3), slice(None), slice(3, 9), slice(9, 3), slice(-5, None), slice(None, None, -7), [2],
                    [], some, some.tolist(), whole[:, 0] > 0):
            np.testing.assert_array_equal(array[key], whole[key if len(np.shape(key)) == 0 or len(key) else slice(0)])
        np.testing.assert_array_equal(array[4:8, 3:5], whole[4:8, 3:5])
        np.testing.assert_array_equal(array[some, 7], whole[some, 7])
        np.testing.assert_array_equal(array[11, 7], whole[11, 7])
        np.testing.assert_array_equal(np.asarray(array), whole)
        for key in (n, -n - 1, [0, n], np.zeros(n - 1, dtype=bool), [[1]], [0.5]):
            self.assertRaises(IndexError, lambda: array[key])

    def test_indexing(self):
        for name in ("bf16", "f16-packed", "f32"):
            store = Store(activations(name))
            self.check_indexing(store["1.resid_post"], plainly(activations(name), "1.resid_post"))

    def test_sites_side_by_side(self):
        store = Store(activations("bf16"))
        both = np.concatenate([plainly(activations("bf16"), s) for s in SITES], axis=1)
        self.assertEqual(store.width(",".join(SITES)), 256)
        self.check_indexing(store[",".join(SITES)], both)

    def test_stored(self):
        """Stored values are views of the file, without a copy."""
        for name, kind in (("bf16", np.uint16), ("f16", np.float16), ("f32", np.float32)):
            array = Store(activations(name)).array("1.resid_post", "stored")
            with h5py.File(activations(name) + "/activations.h5", "r") as file:
                np.testing.assert_array_equal(array[:], file["sites/1.resid_post/values"][...])
            self.assertEqual((array.dtype, array[3:5].dtype), (kind, kind))
            self.assertFalse(array[3:5].flags.owndata)
            self.assertFalse(array[3:5].flags.writeable)

    def test_statistics(self):
        for name in HARVESTS:
            store = Store(activations(name))
            for site in SITES:
                x = store[site][:].astype(np.float64)
                norms = np.linalg.norm(x, axis=1)
                np.testing.assert_allclose(store.mean(site), x.mean(axis=0), rtol=1e-9, atol=1e-12)  # sums in another order
                self.assertAlmostEqual(store.norm_mean(site) / norms.mean(), 1, places=12)
                self.assertAlmostEqual(store.square_mean(site) / (norms ** 2).mean(), 1, places=12)

    def test_checksums(self):
        for name in HARVESTS:
            Store(activations(name)).verify()

    def test_hash(self):
        """The hash of the specification's examples, and of no bytes."""
        self.assertEqual(xxh64(b""), 0xEF46DB3751D8E999)
        self.assertEqual(xxh64(b"a"), 0xD24EC4F1A98C6E5B)
        self.assertEqual(xxh64(b"Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1)
        try:
            import xxhash
        except ImportError:
            return
        random = np.random.default_rng(0)
        for length in (*range(1, 70), 20_000, 20_001):
            rows = random.integers(0, 256, (3, length), dtype=np.uint8)
            self.assertEqual(_xxh64_rows(rows).tolist(), [xxhash.xxh64_intdigest(row.tobytes()) for row in rows])

    def test_not_in_one_piece(self):
        """Files that another program rewrote in compressed chunks."""
        path = self.copy(activations("bf16") + "/activations.h5")
        with h5py.File(path, "r+") as file:
            data = file["sites/1.resid_post/values"]
            values, dtype = data[...], data.attrs["dtype"]
            del file["sites/1.resid_post/values"]
            new = file.create_dataset("sites/1.resid_post/values", data=values, chunks=(100, 64), compression="gzip")
            new.attrs["dtype"] = dtype
        store = Store(path)
        self.check_indexing(store["1.resid_post"], plainly(activations("bf16"), "1.resid_post"))
        store.verify()


class Tokens(FolderCase):
    def test_columns(self):
        for name in HARVESTS:
            store = Store(activations(name))
            with h5py.File(activations(name) + "/activations.h5", "r") as file:
                first, rows = file["documents/row"][...], np.arange(store.rows)
                np.testing.assert_array_equal(store.tokens, file["tokens/ids"][...])
                np.testing.assert_array_equal(store.sequence_of(rows), file["tokens/sequence"][...])
                np.testing.assert_array_equal(store.position_of(slice(None)), file["tokens/position"][...])
            owners = np.repeat(np.arange(store.n_documents), np.diff(first).astype(int))
            np.testing.assert_array_equal(store.document_of(rows), owners)
            np.testing.assert_array_equal(store.document_of(slice(-5, None)), owners[-5:])
            self.assertEqual(store.document_of(-1), owners[-1])

    def test_documents_are_the_corpus(self):
        """The text of each document is at its stated place in the data file."""
        with open(f"{SOURCE}/configs/demo/corpus.txt", "rb") as file:
            corpus = file.read()
        for name in HARVESTS:
            store = Store(activations(name))
            for d in range(store.n_documents):
                file, offset, length = store.document_place(d)
                self.assertEqual(file, "corpus.txt")
                self.assertEqual(store.document_text(d), corpus[offset:offset + length].decode())

    def test_spans(self):
        for name in ("bf16", "bf16-packed"):
            store = Store(activations(name))
            for row in range(0, store.rows, 37):
                span = np.arange(*store.span_of(row).indices(store.rows))
                same = (store.sequence_of(slice(None)) == store.sequence_of(row)) & (store.document_of(slice(None)) == store.document_of(row))
                np.testing.assert_array_equal(span, np.flatnonzero(same))

    def test_text(self):
        store = Store(activations("bf16"))
        self.assertEqual("".join(store.token_text(slice(0, 30))), store.text(slice(0, 30)))

        class Reversed:
            def decode(self, ids):
                return "".join(store.token_bytes(i).decode() for i in reversed(ids))
        self.assertEqual(store.text([0, 1], tokenizer=Reversed()), "".join(store.token_text([1, 0])))
        try:
            import tokenizers  # noqa: F401
        except ImportError:
            return
        model = f"{SOURCE}/configs/demo/model"
        self.assertEqual(store.document_text(3, tokenizer=model).strip(), store.document_text(3).strip())

    def test_parts_of_characters(self):
        store = Store(activations("signs"))
        for d in range(store.n_documents):
            self.assertEqual(store.document_text(d), f"the cafe\u0301 has \u2713 {d + 1} \u20ac and \U0001f600 for \u65e5\u672c .")
        self.assertTrue(any(text.startswith("<0x") for text in store.token_text(slice(0, 40))))

    def test_token_ids(self):
        """A file of ids: each row is a document, whose place is its index."""
        store = Store(activations("ids"))
        self.assertEqual((store.n_documents, store.rows, store.document_place(3)), (10, 300, ("ids.npy", 3, 0)))
        np.testing.assert_array_equal(store.tokens[store.document_rows(3)], np.arange(91, 121))

    def test_no_text(self):
        """A harvest without tokenizer."""
        path = self.copy(activations("ids") + "/activations.h5")
        with h5py.File(path, "r+") as file:
            offset = file["vocabulary/offset"]
            offset[...] = np.zeros(len(offset), dtype=np.uint64)
            del file["vocabulary/bytes"]
            file["vocabulary/bytes"] = np.zeros(1, dtype=np.uint8)
        self.assertRaisesRegex(StoreError, "pass tokenizer=", Store(path).text, [0, 1])

    def test_broken_characters(self):
        from microw_store.store import show_bytes
        self.assertEqual(show_bytes(b"a\xe2\x9c"), "a<0xE2><0x9C>")
        self.assertEqual(show_bytes("a✓".encode()), "a✓")

    def test_provenance(self):
        about = Store(activations("bf16")).provenance
        self.assertIn("corpus.txt", about["dataset_sha256"])
        self.assertIn("dtype: bf16", about["config"])


class Several(unittest.TestCase):
    def setUp(self):
        self.parts = [Store(activations(n)) for n in ("bf16", "f32-packed")]
        self.store = Store([activations("bf16"), activations("f32-packed")])

    def test_rows(self):
        whole = np.concatenate([p["1.resid_post"][:] for p in self.parts])
        Rows.check_indexing(self, self.store["1.resid_post"], whole)
        np.testing.assert_allclose(self.store.mean("1.resid_post"), whole.mean(axis=0, dtype=np.float64), rtol=1e-9, atol=1e-12)
        self.assertRaises(ValueError, self.store.array, "1.resid_post", "stored")  # two types
        self.store.verify()

    def test_tokens(self):
        a, b = self.parts
        at = a.rows
        np.testing.assert_array_equal(self.store.tokens, np.concatenate([a.tokens, b.tokens]))
        rows = np.arange(b.rows)
        np.testing.assert_array_equal(self.store.document_of(rows + at), b.document_of(rows) + a.n_documents)
        np.testing.assert_array_equal(self.store.sequence_of(rows + at), b.sequence_of(rows).astype(int) + a.n_sequences)
        last = self.store.n_documents - 1
        self.assertEqual(self.store.document_text(last), b.document_text(b.n_documents - 1))
        self.assertEqual(self.store.document_place(last), b.document_place(b.n_documents - 1))
        span, theirs = self.store.span_of(at + 100), b.span_of(100)
        self.assertEqual((span.start - at, span.stop - at), (theirs.start, theirs.stop))
        self.assertEqual(len(self.store.provenances), 2)


class Damage(FolderCase):
    def refused(self, path, text):
        with self.assertRaises(StoreError) as caught:
            Store(path).verify()
        self.assertIn(text, str(caught.exception))
        self.assertIn(os.path.basename(self.folder), str(caught.exception))

    def changed(self, change):
        path = self.copy(activations("bf16") + "/activations.h5")
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    def test_missing(self):
        self.refused(self.folder, "no such file")
        self.refused(self.folder + "/none.h5", "no such file")

    def test_unfinished(self):
        self.refused(self.changed(lambda f: f.attrs.__setitem__("complete", np.int64(0))), "did not finish")
        os.rename(f"{self.folder}/activations.h5", f"{self.folder}/activations.h5.partial")
        self.refused(self.folder, "has not finished")

    def test_other_schema(self):
        self.refused(self.changed(lambda f: f.attrs.__setitem__("schema", np.int64(3))), "store schema 3; this reader knows schemas 1 to 2")

    def test_no_store(self):
        with open(f"{self.folder}/activations.h5", "w") as file:
            file.write("text")
        self.refused(self.folder, "cannot be opened as HDF5")
        with h5py.File(f"{self.folder}/other.h5", "w") as file:
            file["x"] = [1]
        self.refused(f"{self.folder}/other.h5", "attribute 'schema' is missing")

    def test_parts_missing(self):
        self.refused(self.changed(lambda f: f.__delitem__("tokens/ids")), "'tokens/ids' is missing")
        self.refused(self.changed(lambda f: f.__delitem__("sites/2.mlp_out/values")), "'sites/2.mlp_out/values' is missing")
        self.refused(self.changed(lambda f: f["sites/2.mlp_out/values"].attrs.__setitem__("dtype", b"f8")), "dtype 'f8'")
        self.refused(self.changed(lambda f: f["sites/2.mlp_out/values"].attrs.__setitem__("dtype", b"f32")), "attribute dtype is f32, but its elements are")

    def test_truncated(self):
        path = self.copy(activations("bf16") + "/activations.h5")
        os.truncate(path, os.path.getsize(path) // 2)
        self.refused(path, "truncated")

    def test_a_byte(self):
        path = self.copy(activations("bf16") + "/activations.h5")
        with h5py.File(path, "r") as file:
            data, block = file["sites/2.mlp_out/values"], file["blocks/row"][3]
            place = data.id.get_offset() + int(block) * 256 + 5
        with open(path, "r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
        Store(path)["2.mlp_out"][:3]
        self.refused(path, "site 2.mlp_out, block 3")

    def test_replaced(self):
        """Another file replaces the one that was opened."""
        path = self.copy(activations("bf16") + "/activations.h5")
        store = Store(path)
        os.remove(path)
        shutil.copy(activations("f32-packed") + "/activations.h5", path)
        self.assertRaisesRegex(StoreError, "the file has changed since", lambda: store["2.mlp_out"][:3])

    def test_earlier_schema(self):
        """Schema 1: a row belongs to the document that its sequence begins with."""
        def make(file):
            file.attrs["schema"] = np.int64(1)
            del file["documents/row"]
        path = self.copy(activations("bf16-packed") + "/activations.h5")
        with h5py.File(path, "r+") as file:
            make(file)
            of_sequence = file["sequences/document"][...]
        store = Store(path)
        rows = np.arange(store.rows)
        np.testing.assert_array_equal(store.document_of(rows), of_sequence[store.sequence_of(rows)])
        self.assertEqual(store.schema, 1)

    def test_arguments(self):
        store = Store(activations("bf16"))
        self.assertRaisesRegex(KeyError, "it has 1.resid_post, 2.mlp_out", lambda: store["7.mlp_out"])
        self.assertRaises(ValueError, store.array, "2.mlp_out", "f64")
        self.assertRaises(IndexError, store.document_rows, store.n_documents)
        self.assertRaises(ValueError, Store, [])


if __name__ == "__main__":
    unittest.main()
