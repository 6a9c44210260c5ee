"""Writes the rows on which the schedule of training is chosen: two models and a synthetic truth, each as float32 files
of rows for training and of rows for measurement, from other documents.

    tools/schedule_data.py FOLDER [--microw build/microw] [--only demo stories synthetic]

demo       layer 2 of the demo model (width 128): nine of ten documents of its corpus, and the others with heldout.txt
stories    layer 3 of stories260K (width 64), from $MICROW_TEST_DATA: nine of ten stories, and the others
synthetic  width 768, the width of GPT-2 small: sums of 12288 directions. Direction i is active with a probability
           proportional to 1 / (i + 20), 48 are active in a row on average; children (half of the directions) are active
           only with their parents. Values are log-normal; a mean vector, three columns that are 30 times as large as the
           others, and Gaussian noise with a falling spectrum are added. 12 % of the variance is noise.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "python"))

SEPARATOR = "<|endoftext|>"
WIDTHS = {"demo": 128, "stories": 64, "synthetic": 768}


def harvest(program, model, text, split, site, out):
    """Writes the activations of a model at a site over a text."""
    from microw_store import Store
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/text.txt", "w", encoding="utf-8") as f:
            f.write(text)
        with open(folder + "/exp.yaml", "w", encoding="utf-8") as f:
            f.write("name: rows\nstore: store\nmodel: {path: %s, dtype: f32}\n"
                    "dataset: {path: text.txt, split: %s, context: 256, batch: 64, pack: false}\n"
                    "harvest: {sites: [%s], dtype: f32}\nsae: {}\ntrain: {tokens: 1000}\n" % (model, split, site))
        subprocess.run([program, "harvest", folder + "/exp.yaml"], check=True, stdout=subprocess.DEVNULL)
        rows = Store(folder + "/store/activations/rows")[site][:]
    np.random.default_rng(0).permutation(rows).tofile(out)
    return len(rows)


def split_documents(documents):
    return [x for i, x in enumerate(documents) if i % 10 != 9], documents[9::10]


def demo(program, folder):
    place = os.path.join(ROOT, "configs/demo")
    with open(place + "/corpus.txt", encoding="utf-8") as f:
        train, test = split_documents(f.read().splitlines())
    with open(place + "/heldout.txt", encoding="utf-8") as f:
        test += f.read().splitlines()
    return [harvest(program, place + "/model", "\n".join(part) + "\n", "line", "2.resid_post", f"{folder}/demo.{name}.f32")
            for name, part in (("train", train), ("test", test))]


def stories(program, folder):
    data = os.environ["MICROW_TEST_DATA"]
    with open(data + "/text/tinystories_2M.txt", encoding="utf-8") as f:
        train, test = split_documents(f.read().split(SEPARATOR))
    return [harvest(program, data + "/stories260K-hf", SEPARATOR.join(part), "separator", "3.resid_post",
                    f"{folder}/stories.{name}.f32") for name, part in (("train", train), ("test", test))]


# ---- the synthetic truth

WIDTH, DIRECTIONS, ACTIVE = WIDTHS["synthetic"], 12288, 48


class Truth:
    def __init__(self):
        draw = np.random.default_rng(1)
        half = DIRECTIONS // 2
        rate = 1 / (np.arange(half) + 20.0)
        # A child is active in half of its parent's rows, so parents have two thirds of all active directions.
        self.rate = np.minimum(rate / rate.sum() * ACTIVE / 1.5, 0.5).astype(np.float32)
        parents = draw.standard_normal((half, WIDTH))
        children = 0.5 * parents + draw.standard_normal((half, WIDTH))
        both = np.concatenate([parents, children])
        self.direction = (both / np.linalg.norm(both, axis=1, keepdims=True)).astype(np.float32)
        self.mean = (draw.standard_normal(WIDTH) * 0.3).astype(np.float32)
        basis = np.linalg.qr(draw.standard_normal((WIDTH, WIDTH)))[0]
        self.noise = (basis * (np.arange(WIDTH) + 10.0) ** -0.5).astype(np.float32)
        self.noise *= np.float32(np.sqrt(0.12 / 0.88 * ACTIVE * 1.6) / np.linalg.norm(self.noise))
        self.loud = draw.permutation(WIDTH)[:3]

    def rows(self, n, seed):
        draw = np.random.default_rng(seed)
        parents = draw.random((n, DIRECTIONS // 2), dtype=np.float32) < self.rate
        children = parents & (draw.random(parents.shape, dtype=np.float32) < 0.5)
        active = np.concatenate([parents, children], axis=1)
        value = np.zeros(active.shape, np.float32)
        value[active] = np.exp(0.5 * draw.standard_normal(active.sum(), dtype=np.float32))
        x = value @ self.direction + draw.standard_normal((n, WIDTH), dtype=np.float32) @ self.noise.T + self.mean
        x[:, self.loud] += 30 * np.abs(self.mean[self.loud])
        return x


def synthetic(_, folder):
    truth, counts = Truth(), []
    for name, parts, first in (("train", 200, 100), ("test", 10, 10)):
        with open(f"{folder}/synthetic.{name}.f32", "wb") as f:
            for part in range(parts):
                truth.rows(2000, first + part).tofile(f)
        counts.append(2000 * parts)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--microw", default=os.path.join(ROOT, "build/microw"))
    parser.add_argument("--only", nargs="*", default=list(WIDTHS), choices=WIDTHS)
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    for name in args.only:
        print(name, "%d rows for training, %d for measurement" % tuple(globals()[name](args.microw, args.folder)))


if __name__ == "__main__":
    main()
