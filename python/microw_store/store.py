"""Activations with their tokens, sequences, documents and text."""
import codecs
import operator
import os

import numpy as np

from .bits import to_float32
from .errors import StoreError
from .harvest_file import HarvestFile

_DTYPES = ("float32", "stored", "bfloat16")


class SiteArray:
    """Rows of one site, or of several side by side, as a read-only array [rows, width].

    a[3], a[10:20], a[[5, 2, 9]] and a[mask], each also with a second index for columns, return float32 whatever is
    stored. dtype "stored" returns the values as stored (bf16 as uint16; slices of one file are then views of the memory
    map, not copies), and "bfloat16" a torch tensor.
    """

    ndim = 2

    def __init__(self, files, sites, dtype="float32"):
        if dtype not in _DTYPES:
            raise ValueError(f"dtype '{dtype}': expected one of {', '.join(_DTYPES)}")
        self._files, self._sites, self.dtype_name = files, sites, dtype
        self._first = np.cumsum([0] + [p.rows for p in files])
        self._kinds = {p.sites[s].kind for p in files for s in sites}
        if dtype == "stored" and len(self._kinds) > 1:
            raise ValueError(f"values are stored as {' and '.join(sorted(self._kinds))}: use dtype float32")
        self.shape = (int(self._first[-1]), sum(files[0].sites[s].width for s in sites))

    def __len__(self):
        return self.shape[0]

    @property
    def dtype(self):
        """A numpy dtype, or torch.bfloat16."""
        if self.dtype_name == "bfloat16":
            return _torch().bfloat16
        if self.dtype_name == "float32":
            return np.dtype(np.float32)
        return np.dtype({"bf16": np.uint16, "f16": np.float16, "f32": np.float32}[next(iter(self._kinds))])

    def __repr__(self):
        return f"<SiteArray {','.join(self._sites)} {self.shape} {self.dtype_name}>"

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key):
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(rows, slice):
            begin, end, step = rows.indices(len(self))
            if step == 1:
                return self._convert([self._range(s, begin, max(begin, end)) for s in self._sites], columns)
            rows = np.arange(begin, end, step)
        elif np.ndim(rows) == 0:
            return self[[operator.index(rows)], columns][0]
        rows = self._check(np.asarray(rows))
        return self._convert([self._take(s, rows) for s in self._sites], columns)

    def _check(self, rows):
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape}: expected ({len(self)},)")
            return np.flatnonzero(rows)
        if rows.size == 0:
            return rows.astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise IndexError("rows: expected a number, a slice, or a list of numbers or booleans")
        rows = rows.astype(np.int64)
        bad = (rows < -len(self)) | (rows >= len(self))
        if bad.any():
            raise IndexError(f"row {rows[bad][0]} is out of range: {len(self)} rows")
        return np.where(rows < 0, rows + len(self), rows)

    def _range(self, site, begin, end):
        """Returns [(stored values, kind)] of rows begin .. end - 1, one item per file."""
        pieces = []
        for file, first in zip(self._files, self._first):
            low, high = max(begin - first, 0), min(end - first, file.rows)
            if low < high:
                pieces.append((file.values(site)[low:high], file.sites[site].kind))
        return pieces

    def _take(self, site, rows):
        """Returns [(values, kind)] of `rows`, in their order; with several files one array, as float32 or as stored."""
        if len(self._files) == 1:
            return [(self._files[0].take(site, rows), self._files[0].sites[site].kind)]
        of = np.searchsorted(self._first, rows, side="right") - 1
        out, kind = None, "f32" if self.dtype_name != "stored" else next(iter(self._kinds))
        for p in np.unique(of):
            file = self._files[p]
            values = file.take(site, rows[of == p] - self._first[p])
            if self.dtype_name != "stored":
                values = to_float32(values, file.sites[site].kind)
            if out is None:
                out = np.empty((len(rows), values.shape[1]), dtype=values.dtype)
            out[of == p] = values
        return [] if out is None else [(out, kind)]

    def _convert(self, sites, columns):
        if len(sites) == 1 and len(sites[0]) == 1:
            values, kind = sites[0][0]
            values = values[:, columns]
            return self._finish(values, kind)
        done = [np.concatenate([self._plain(v, k) for v, k in pieces]) for pieces in sites if pieces]
        if not done:
            return self._finish(np.empty((0, self.shape[1]), self._plain_dtype())[:, columns], None)
        return self._finish(np.concatenate(done, axis=1)[:, columns], None)

    def _plain_dtype(self):
        return self.dtype if self.dtype_name == "stored" else np.float32

    def _plain(self, values, kind):
        return np.asarray(values) if self.dtype_name == "stored" else to_float32(values, kind)

    def _finish(self, values, kind):
        """Converts values to the dtype of the array; kind None: they are converted already."""
        if self.dtype_name == "bfloat16":
            if kind == "bf16":
                torch = _torch()
                return torch.from_numpy(np.array(values).view(np.int16)).view(torch.bfloat16)
            return _torch().from_numpy(np.array(self._plain(values, kind or "f32"))).bfloat16()
        return values if kind is None else self._plain(values, kind)


def _torch():
    import torch
    return torch


class Store:
    """activations.h5, or the folder that contains it; several of them form one store, with the sites that all have."""

    def __init__(self, path):
        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        if not paths:
            raise ValueError("a store needs at least one file")
        self._files = [HarvestFile(p) for p in paths]
        self._cache = {}
        for file in self._files[1:]:
            self._check_model(file)
        first = self._files[0]
        self.sites = [n for n, s in first.sites.items()
                      if all(n in p.sites and p.sites[n].width == s.width for p in self._files)]
        self.rows = sum(p.rows for p in self._files)
        self.n_sequences = sum(p.n_sequences for p in self._files)
        self.n_documents = sum(p.n_documents for p in self._files)
        self._first = np.cumsum([0] + [p.rows for p in self._files])

    def _check_model(self, file):
        first = self._files[0]
        if first.provenance.get("model_sha256") != file.provenance.get("model_sha256"):
            raise StoreError(f"{first.path} and {file.path} are of different models")

    def __getstate__(self):
        return {**self.__dict__, "_cache": {}}

    def __len__(self):
        return self.rows

    def __repr__(self):
        return f"<Store {self.rows} rows, sites {', '.join(self.sites)}, in {', '.join(p.path for p in self._files)}>"

    # ---- properties ----

    @property
    def schema(self):
        """The lowest schema of the files."""
        return min(p.schema for p in self._files)

    @property
    def provenance(self):
        """Model, hashes, settings (YAML), fingerprint and version of the first file."""
        return dict(self._files[0].provenance)

    @property
    def provenances(self):
        return [dict(p.provenance) for p in self._files]

    # ---- activations ----

    def __getitem__(self, sites):
        return self.array(sites)

    def array(self, sites, dtype="float32"):
        """Returns rows of "8.resid_post", or of "6.resid_post,8.resid_post" side by side. dtype: "float32", "stored" or
        "bfloat16"."""
        names = sites.split(",")
        for name in names:
            if name not in self.sites:
                raise KeyError(f"site '{name}' is not in the store; it has {', '.join(self.sites)}")
        return SiteArray(self._files, names, dtype)

    def width(self, sites):
        return self.array(sites).shape[1]

    def kind(self, site):
        """Returns how the first file stores a site: "bf16", "f16" or "f32"."""
        return self._files[0].sites[site].kind

    def _over_files(self, site, name):
        """Returns the mean over files, each weighted by the rows that its own mean is of."""
        if len(self._files) == 1:
            return self._files[0].read(f"sites/{site}/{name}")[0]
        rows = [file.mean_rows(site) for file in self._files]
        total = sum(rows)
        if not total:  # undefined
            return np.full_like(self._files[0].read(f"sites/{site}/{name}")[0], np.nan)
        return sum(n / total * file.read(f"sites/{site}/{name}")[0] for n, file in zip(rows, self._files) if n)

    def mean(self, site):
        """Returns float64 [width]: the mean of the finite rows, as the harvest stored it."""
        return self._over_files(site, "mean")

    def norm_mean(self, site):
        """Returns the mean length of a row."""
        return float(self._over_files(site, "norm_mean")[0])

    def square_mean(self, site):
        """Returns the mean squared length of a row."""
        return float(self._over_files(site, "square_mean")[0])

    def verify(self, site=None):
        """Reads all blocks and verifies their checksums; raises StoreError at the first block that differs."""
        for name in [site] if site else self.sites:
            for file in self._files:
                file.verify(name)

    # ---- tokens ----

    def _cached(self, key, make):
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _column(self, name, counts=None):
        """Returns a column of all files, concatenated; numbers that count `counts` continue from file to file."""
        def make():
            columns, before = [], 0
            for file in self._files:
                column = file.read(name)[0]
                if counts is not None:
                    column = column.astype(np.int64) + before
                    before += getattr(file, counts)
                columns.append(column)
            return np.concatenate(columns)
        return self._cached(name, make)

    @property
    def tokens(self):
        """uint32 [rows]: token ids."""
        return self._column("tokens/ids")

    def position_of(self, rows):
        """Returns the position of rows in their sequence, in tokens; skipped tokens count too."""
        return self._column("tokens/position")[rows]

    def sequence_of(self, rows):
        return self._column("tokens/sequence", "n_sequences")[rows]

    def document_of(self, rows):
        rows = np.asarray(rows) if not isinstance(rows, slice) else np.arange(*rows.indices(self.rows))
        rows = np.where(rows < 0, rows + self.rows, rows)
        return np.searchsorted(self._document_first(), rows, side="right") - 1

    def _document_first(self):
        def make():
            ends = [p.document_rows()[1:] + first for p, first in zip(self._files, self._first)]
            return np.concatenate([[0]] + ends)
        return self._cached("documents", make)

    def document_rows(self, document):
        """Returns the rows of a document, as a slice; they may be of several sequences."""
        first = self._document_first()
        document = operator.index(document)
        if not 0 <= document < self.n_documents:
            raise IndexError(f"document {document} is out of range: {self.n_documents} documents")
        return slice(int(first[document]), int(first[document + 1]))

    def sequence_rows(self, sequence):
        offset, length = self._column("sequences/offset", "rows"), self._column("sequences/length")
        return slice(int(offset[sequence]), int(offset[sequence]) + int(length[sequence]))

    def span_of(self, row):
        """Returns the rows around `row` of the same sequence and document, as a slice."""
        row = operator.index(row)
        a, b = self.sequence_rows(self.sequence_of(row)), self.document_rows(self.document_of(row))
        return slice(max(a.start, b.start), min(a.stop, b.stop))

    def document_place(self, document):
        """Returns (data file, offset, length), in bytes of the unpacked file; for a JSON array and .npy (file, index of
        the element, 0). File names are those of the harvest, without folders."""
        of_part = np.cumsum([0] + [p.n_documents for p in self._files])
        p = int(np.searchsorted(of_part, document, side="right")) - 1
        file, offset, length = (int(n) for n in self._column("documents/place")[document])
        lines = self._files[p].provenance.get("dataset_sha256", "").splitlines()
        names = [line.split("  ", 1)[-1] for line in lines] or [os.path.basename(self._files[p].path)]
        return names[0 if len(names) == 1 else file], offset, length

    # ---- text ----

    def _vocabulary(self):
        def make():
            offset, data = self._files[0].read("vocabulary/offset", "vocabulary/bytes")
            for file in self._files[1:]:
                if not all(np.array_equal(a, b) for a, b in zip((offset, data),
                                                                file.read("vocabulary/offset", "vocabulary/bytes"))):
                    raise StoreError(f"{self._files[0].path} and {file.path} have different vocabularies")
            return offset.astype(np.int64), data.tobytes()
        return self._cached("vocabulary", make)

    @property
    def n_vocabulary(self):
        return len(self._vocabulary()[0]) - 1

    def token_bytes(self, token):
        """Returns the bytes of a token id. Of a character that several tokens share each has a file."""
        offset, data = self._vocabulary()
        return data[offset[token]:offset[token + 1]]

    def token_text(self, rows):
        """Returns the text of each row's token. Bytes that are not a character are shown as <0xE2>."""
        return [show_bytes(self.token_bytes(t)) for t in np.atleast_1d(self.tokens[rows])]

    def text(self, rows, tokenizer=None):
        """Returns the text of rows, concatenated. The store has the bytes of every token, so no tokenizer is needed. A
        tokenizer, an object with decode(ids) or the path of a tokenizer.json (read by the package `tokenizers`), is for
        stores made from token ids alone, and for the tokenizer's own rules of spaces."""
        ids = np.atleast_1d(self.tokens[rows])
        if tokenizer is not None:
            return _decoder(tokenizer).decode([int(t) for t in ids])
        if self._vocabulary()[1].strip(b"\0") == b"":
            raise StoreError(f"{self._files[0].path}: the store was made from token ids and has no text: pass tokenizer=")
        return show_bytes(b"".join(self.token_bytes(t) for t in ids))

    def document_text(self, document, tokenizer=None):
        """Returns the text of a document without its skipped tokens, such as bos by default."""
        return self.text(self.document_rows(document), tokenizer)


def _decoder(tokenizer):
    if hasattr(tokenizer, "decode"):
        return tokenizer
    path = os.fspath(tokenizer)
    path = os.path.join(path, "tokenizer.json") if os.path.isdir(path) else path
    from tokenizers import Tokenizer
    return Tokenizer.from_file(path)


def show_bytes(data):
    """Returns UTF-8 as text, other bytes as <0xE2>."""
    return data.decode("utf-8", errors="microw_hex")


def _hex(error):
    return "".join(f"<0x{b:02X}>" for b in error.object[error.start:error.end]), error.end


codecs.register_error("microw_hex", _hex)
