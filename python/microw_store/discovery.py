"""Readers of discovery.h5, statistics and texts of latents, and of names.csv."""
import csv
import os
from dataclasses import dataclass

import numpy as np

from .errors import StoreError
from .harvest_file import open_h5, text_attributes
from .store import show_bytes

_KINDS = ("microw discovery 1", "microw discovery 2", "microw discovery 3")
_NUMBERS = "latents rows top_texts samples around together_rows"
_SILENT = -2**31  # exponent of an empty histogram


@dataclass
class Text:
    """A latent's activation on a row, and on the tokens around it. A token that is a part of a character shows its
    bytes, as <0xE2>; concepts.json has the whole character."""

    row: int  # of the store
    document: int
    position: int  # of the row in its sequence
    activation: float
    center: int  # index of the row's token in `tokens`
    tokens: np.ndarray  # int32
    activations: np.ndarray  # float32, 0 where the latent is silent
    before: str
    token: str
    after: str

    @property
    def rows(self):
        """Rows of the store that the text shows."""
        return range(self.row - self.center, self.row - self.center + len(self.tokens))


@dataclass
class Name:
    name: str
    note: str = ""
    by: str = ""
    score: float = float("nan")  # balanced accuracy of detection


class Discovery:
    """discovery.h5, or the folder that contains it; names.csv beside it is read too.

    found["latents/count"] is the array of that name in the file; the methods combine the arrays.
    """

    def __init__(self, path, names=None):
        path = os.fspath(path)
        self.path = os.path.join(path, "discovery.h5") if os.path.isdir(path) else path
        with open_h5(self.path) as file:
            attributes = text_attributes(file)
            if attributes.get("kind") not in _KINDS:
                raise StoreError(f"{self.path}: kind '{attributes.get('kind')}': not a discovery, or of another version")
            self._arrays = {}
            file.visititems(lambda name, item: self._arrays.update({name: item[...]} if hasattr(item, "shape") else {}))
        self.kind, self.sae, self.stage = attributes["kind"], attributes.get("sae", ""), attributes.get("stage", "")
        (self.n_latents, self.rows, self.top_texts, self.samples, self.around,
         self.coactive_rows) = (int(n) for n in attributes[_NUMBERS].split())
        self.sources = attributes.get("sources", "").splitlines()
        self.categories = attributes.get("categories", "").splitlines()
        self.scored = attributes.get("scored", "").splitlines()
        names = os.path.join(os.path.dirname(self.path), "names.csv") if names is None else names
        self.names = read_names(names) if os.path.exists(names) else {}

    def __getitem__(self, name):
        if name not in self._arrays:
            raise KeyError(f"{self.path} has no '{name}'; it has {', '.join(self._arrays)}")
        return self._arrays[name]

    def __contains__(self, name):
        return name in self._arrays

    def keys(self):
        return self._arrays.keys()

    def __repr__(self):
        return f"<Discovery {(self.count > 0).sum()} active of {self.n_latents} latents on {self.rows} rows, {self.path}>"

    # ---- all latents ----

    @property
    def count(self):
        """int64 [latents]: rows on which each latent is active."""
        return self["latents/count"]

    @property
    def frequency(self):
        return self.count / self.rows

    @property
    def max(self):
        """float32 [latents]: largest activation, 0 of a latent that is never active."""
        return self["texts/activation"][:, 0]

    # ---- one latent ----

    def name(self, latent):
        """Returns the latent's name, or ""."""
        return self.names[latent].name if latent in self.names else ""

    def category(self, latent):
        """Returns the category that the latent detects with the largest F1, or None. Before kind 3: the commonest one of
        its top texts."""
        number = self["latents/category"][latent]
        return self.categories[number] if self.categories and self.count[latent] and number >= 0 else None

    def best(self, category):
        """Returns (latent, precision, recall, f1) of the latent that detects a category, given by name, with the largest
        F1 over all rows; (latent, 0, 0, 0) of a category that none detects."""
        number = self.categories.index(category)
        hits, rows = self["categories/count"][:, number], self["categories/rows"][number]
        f1 = 2 * hits / np.maximum(self.count + rows, 1)
        latent = int(f1.argmax())
        return latent, hits[latent] / max(self.count[latent], 1), hits[latent] / max(rows, 1), f1[latent]

    def histogram(self, latent):
        """Returns (edges [bins + 1], counts [bins]) of the latent's activations; the width of a bin is a power of
        two."""
        counts, exponent = self["latents/histogram"][latent], int(self["latents/histogram_exponent"][latent])
        width = 0.0 if exponent == _SILENT else 2.0 ** exponent
        return np.arange(len(counts) + 1) * width, counts

    def texts(self, latent):
        """Returns the rows with the largest activations, strongest first; at most one per document and sequence."""
        return self._texts(latent, 0, self.top_texts)

    def sampled_texts(self, latent):
        """Returns rows drawn at random from all on which the latent is active, strongest first."""
        return self._texts(latent, self.top_texts, self.top_texts + self.samples)

    def promoted(self, latent):
        """Returns [(token, logit)]: what one unit of the latent adds to logits by the logit lens; [] if the file has
        none."""
        return self._tokens(latent, "promoted")

    def suppressed(self, latent):
        return self._tokens(latent, "suppressed")

    def alike(self, latent):
        """Returns [(latent, cosine of decoder rows)]."""
        return self._nearest(latent, "neighbours/cosine_index", "neighbours/cosine")

    def coactive(self, latent):
        """Returns [(latent, Jaccard index of active rows)]."""
        return self._nearest(latent, "neighbours/together_index", "neighbours/together")

    def token_text(self, token):
        return show_bytes(self._token(token))

    # ---- parts ----

    def _token(self, token):
        offset = self["vocabulary/offset"]
        return self["vocabulary/bytes"][int(offset[token]):int(offset[token + 1])].tobytes()

    def _shown(self, tokens):
        return show_bytes(b"".join(self._token(t) for t in tokens))

    def _nearest(self, latent, index, value):
        if index not in self:
            return []
        return [(int(i), float(v)) for i, v in zip(self[index][latent], self[value][latent]) if i >= 0]

    def _tokens(self, latent, which):
        return [(self.token_text(t), v) for t, v in self._nearest(latent, f"logits/{which}_token", f"logits/{which}")]

    def _texts(self, latent, first, end):
        return [self._text(latent, i) for i in range(first, end) if self["texts/row"][latent, i] >= 0]

    def _text(self, latent, i):
        t = latent * (self.top_texts + self.samples) + i
        start = self["texts/start"]
        shown = slice(int(start[t]), int(start[t + 1]))
        tokens, center = self["texts/tokens"][shown], int(self["texts/center"][latent, i])
        return Text(row=int(self["texts/row"][latent, i]), document=int(self["texts/document"][latent, i]),
                    position=int(self["texts/position"][latent, i]), activation=float(self["texts/activation"][latent, i]),
                    center=center, tokens=tokens, activations=self["texts/activations"][shown],
                    before=self._shown(tokens[:center]), token=self._shown(tokens[center:center + 1]),
                    after=self._shown(tokens[center + 1:]))


def read_names(path):
    """Returns {latent: Name} of a CSV file with a header that has `latent` and `name`, or without one: latent, name."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(row)]
    header = ["latent", "name"]
    if rows and {"latent", "name"} <= set(rows[0]):
        header, rows = rows[0], rows[1:]
    names = {}
    for row in rows:
        fields = dict(zip(header, row))
        if not fields.get("latent", "").strip().isdigit():
            raise StoreError(f"{path}: expected a latent with a name, found {row}")
        latent = int(fields["latent"])
        if latent in names:
            raise StoreError(f"{path}: latent {latent} is named twice")
        if fields.get("name"):
            names[latent] = Name(fields["name"], fields.get("note", ""), fields.get("by", ""), float(fields.get("score") or "nan"))
    return names
