import multiprocessing
import pickle
import subprocess
import sys
import unittest

import numpy as np

from common import activations, has_torch
from microw_store import RowDataset, Store

SITE = "1.resid_post"


def rows_of(job):
    dataset, rows = job
    return np.stack([dataset[i] for i in rows])


class Rows(unittest.TestCase):
    def setUp(self):
        self.store = Store(activations("bf16"))
        self.whole = self.store[SITE][:]

    def test_items(self):
        dataset = RowDataset(self.store, SITE)
        self.assertEqual(len(dataset), self.store.rows)
        np.testing.assert_array_equal(dataset[9], self.whole[9])
        np.testing.assert_array_equal(np.stack(dataset.__getitems__([4, 1, 4])), self.whole[[4, 1, 4]])
        some = RowDataset(activations("bf16"), SITE, rows=[8, 3, 5])
        self.assertEqual(len(some), 3)
        np.testing.assert_array_equal(np.stack(some.__getitems__([2, 0])), self.whole[[5, 8]])
        x, y = RowDataset(self.store, SITE, target="2.mlp_out")[6]
        np.testing.assert_array_equal((x, y), (self.whole[6], self.store["2.mlp_out"][6]))

    def test_without_torch(self):
        code = "import sys, microw_store; sys.exit('torch' in sys.modules or 'tokenizers' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)

    def test_processes(self):
        """Workers are forked, or spawned, which pickles the data set."""
        dataset = RowDataset(Store([activations("bf16"), activations("f32-packed")]), SITE)
        wanted = dataset._arrays[0][:4000]
        self.assertLess(len(pickle.dumps(dataset)), 50_000)
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                jobs = [(dataset, range(at, at + 500)) for at in range(0, 4000, 500)]
                np.testing.assert_array_equal(np.concatenate(pool.map(rows_of, jobs)), wanted)


@unittest.skipUnless(has_torch(), "no torch here")
class Torch(unittest.TestCase):
    def setUp(self):
        self.store = Store(activations("bf16"))
        self.whole = self.store[SITE][:]

    def batches(self, dataset, **options):
        from torch.utils.data import DataLoader
        return list(DataLoader(dataset, 1000, **options))

    def test_bfloat16(self):
        import torch
        for name in ("bf16", "f16", "f32"):
            store = Store(activations(name))
            array = store.array(SITE, "bfloat16")
            self.assertIs(array.dtype, torch.bfloat16)
            wanted = torch.from_numpy(store[SITE][:]).bfloat16()
            for key in (slice(None), slice(5, 50), [3, 1, 2], 4, (slice(2, 4), slice(1, 3))):
                self.assertTrue(torch.equal(array[key], wanted[key]))

    def test_each_row_once(self):
        import torch
        for workers, method in ((0, None), (2, "fork"), (2, "spawn")):
            if method == "spawn":
                rows = range(2000)  # starting takes a while
            else:
                rows = range(self.store.rows)
            dataset = RowDataset(self.store, SITE, rows=rows)
            got = self.batches(dataset, num_workers=workers, multiprocessing_context=method)
            self.assertTrue(torch.equal(torch.cat(got), torch.from_numpy(self.whole[:len(rows)])))

    def test_each_row_once_shuffled(self):
        got = np.concatenate(self.batches(RowDataset(self.store, SITE), num_workers=2, shuffle=True))
        self.assertFalse(np.array_equal(got, self.whole))
        self.assertEqual(sorted(row.tobytes() for row in got), sorted(row.tobytes() for row in self.whole))

    def test_pairs(self):
        batches = self.batches(RowDataset(self.store, SITE, target="2.mlp_out"), num_workers=2)
        np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), self.store["2.mlp_out"][:])

    def test_readme(self):
        """Runs the example of the README."""
        import re
        from common import SOURCE
        with open(f"{SOURCE}/README.md", encoding="utf-8") as file:
            code = re.search(r"```python\n(.*?RowDataset.*?)```", file.read(), re.S).group(1)
        code = code.replace("store/activations/quickstart", activations("bf16")).replace("2.resid_post", SITE)
        count = []
        exec(code, {"train": lambda x: count.append(len(x))})  # noqa: S102
        self.assertEqual(sum(count), self.store.rows)


if __name__ == "__main__":
    unittest.main()
