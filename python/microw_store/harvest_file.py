"""Reader of one activations.h5: a memory map for activations, h5py for everything else."""
import contextlib
import os
from dataclasses import dataclass

import h5py
import numpy as np

from .bits import xxh64_rows
from .errors import StoreError

SCHEMAS = (1, 2)  # that this reader knows
_TYPES = {"bf16": np.dtype("<u2"), "f16": np.dtype("<f2"), "f32": np.dtype("<f4")}
_VERIFY_BYTES = 1 << 26  # hashed at once


@dataclass
class StoredSite:
    width: int
    kind: str  # "bf16", "f16" or "f32"
    offset: int  # in the file; -1: not contiguous


def text_attribute(value):
    """Returns an attribute as str: h5py reads texts of fixed length as bytes, of variable length as str."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def text_attributes(object_, without=()):
    """Returns all texts of an object. A long one continues in KEY.1, KEY.2 and so on: HDF5 limits an attribute to 64
    KiB."""
    texts = {}
    for key, value in object_.attrs.items():
        stem, dot, number = key.rpartition(".")
        if key not in without and not (dot and number.isdigit() and stem in object_.attrs):
            texts[key] = text_attribute(value)
    for key in texts:
        number = 1
        while f"{key}.{number}" in object_.attrs:
            texts[key] += text_attribute(object_.attrs[f"{key}.{number}"])
            number += 1
    return texts


@contextlib.contextmanager
def open_h5(path):
    if not os.path.exists(path):
        raise StoreError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        why = f"cannot be opened as HDF5, or is truncated: {error}"
        if "unable to lock file" in str(error):
            why = "another process has it open and holds HDF5's lock on it; the file itself is probably intact"
        raise StoreError(f"{path}: {why}") from None
    with file:
        yield file


def find_file(path):
    """Returns `path`, or activations.h5 in it. Raises StoreError if only an unfinished file exists."""
    path = os.path.abspath(os.fspath(path))  # the working directory may change before a worker opens the file
    if os.path.isdir(path):
        path = os.path.join(path, "activations.h5")
    if not os.path.exists(path) and os.path.exists(path + ".partial"):
        raise StoreError(f"{path}: its harvest has not finished (activations.h5.partial exists)")
    return path


def _number(file, path, key):
    if key not in file.attrs:
        raise StoreError(f"{path}: attribute '{key}' is missing: not a store of activations")
    return int(file.attrs[key])


def _data(file, path, name):
    if name not in file or not isinstance(file[name], h5py.Dataset):
        raise StoreError(f"{path}: data set '{name}' is missing")
    return file[name]


class HarvestFile:
    def __init__(self, path):
        self.path = find_file(path)
        with open_h5(self.path) as file:
            self._read_header(file)
            self._read_sites(file)
        self.identity = self._look()
        self._open = {}  # site: array, opened by process `_owner`
        self._owner = None

    # ---- opening ----

    def _read_header(self, file):
        self.schema = _number(file, self.path, "schema")
        if self.schema not in SCHEMAS:
            raise StoreError(f"{self.path}: store schema {self.schema}; this reader knows schemas 1 to {SCHEMAS[-1]}")
        if not _number(file, self.path, "complete"):
            raise StoreError(f"{self.path}: its harvest did not finish")
        self.provenance = text_attributes(file, without=("schema", "complete"))
        self.rows = _data(file, self.path, "tokens/ids").shape[0]
        self.n_sequences = _data(file, self.path, "sequences/offset").shape[0]
        self.n_documents = _data(file, self.path, "documents/place").shape[0]

    def _read_sites(self, file):
        if "sites" not in file:
            raise StoreError(f"{self.path}: group 'sites' is missing")
        self.sites = {name: self._read_site(file, name) for name in file["sites"]}

    def _read_site(self, file, name):
        data = _data(file, self.path, f"sites/{name}/values")
        kind = text_attribute(data.attrs["dtype"]) if "dtype" in data.attrs else "(none)"
        if kind not in _TYPES:
            raise StoreError(f"{self.path}: site {name} has dtype '{kind}'; expected one of {', '.join(_TYPES)}")
        if data.dtype.newbyteorder("<") != _TYPES[kind]:
            raise StoreError(f"{self.path}: site {name}: attribute dtype is {kind}, but its elements are {data.dtype}")
        if data.ndim != 2 or data.shape[0] != self.rows or data.shape[1] < 1:
            raise StoreError(f"{self.path}: site {name} has shape {data.shape}; expected {self.rows} rows")
        plain = data.chunks is None and data.id.get_offset() is not None
        site = StoredSite(data.shape[1], kind, data.id.get_offset() if plain else -1)
        end = site.offset + self.rows * site.width * _TYPES[kind].itemsize
        if plain and end > os.path.getsize(self.path):
            raise StoreError(f"{self.path}: truncated: site {name} extends beyond the end of the file")
        return site

    # ---- activations ----

    def _look(self):
        about = os.stat(self.path)
        return about.st_ino, about.st_size, about.st_mtime_ns

    def values(self, name):
        """Returns the stored values [rows, width]: a memory map, or h5py's data set if they are not contiguous. Each
        process opens its own, and raises StoreError if the file was replaced."""
        if self._owner != os.getpid():
            self._open = {k: v for k, v in self._open.items() if isinstance(v, np.memmap)}  # h5py's must not be shared
            self._owner = os.getpid()
        if name not in self._open:
            if self._look() != self.identity:
                raise StoreError(f"{self.path}: the file has changed since it was opened")
            site = self.sites[name]
            shape, kind = (self.rows, site.width), _TYPES[site.kind]
            if site.offset >= 0 and self.rows:
                self._open[name] = np.memmap(self.path, dtype=kind, mode="r", offset=site.offset, shape=shape)
            else:
                self._open[name] = h5py.File(self.path, "r")[f"sites/{name}/values"]
        return self._open[name]

    def take(self, name, rows):
        """Returns a copy of the stored values of rows, in the order given."""
        values = self.values(name)
        if isinstance(values, np.memmap):
            return np.asarray(values[rows])
        wanted, back = np.unique(rows, return_inverse=True)  # h5py requires ascending, unique indices
        return values[wanted][back]

    def __getstate__(self):
        state = dict(self.__dict__)
        state.update(_open={}, _owner=None)
        return state

    # ---- other arrays ----

    def read(self, *names):
        with open_h5(self.path) as file:
            return [_data(file, self.path, name)[...] for name in names]

    def mean_rows(self, name):
        """Returns the number of rows that a site's means are of: rows that are not finite have no part in them."""
        with open_h5(self.path) as file:
            counted = file.get(f"sites/{name}/block_rows")
            return self.rows if counted is None else int(counted[...].sum())

    def document_rows(self):
        """Returns first rows [documents + 1]. Schema 1 has those of sequences only: a row belongs to the document that
        its sequence begins with."""
        if self.schema >= 2:
            rows = self.read("documents/row")[0].astype(np.int64)
        else:
            first, offset = (a.astype(np.int64) for a in self.read("sequences/document", "sequences/offset"))
            at = np.searchsorted(first, np.arange(self.n_documents), side="left")
            rows = np.append(np.append(offset, self.rows)[at], self.rows)
            rows[0] = 0
        good = len(rows) == self.n_documents + 1 and rows[0] == 0 and rows[-1] == self.rows and (np.diff(rows) >= 0).all()
        if not good:
            raise StoreError(f"{self.path}: 'documents/row' does not cover the {self.rows} rows in order")
        return rows

    def verify(self, name):
        """Verifies the checksums of a site's blocks. Raises StoreError at the first that differs."""
        row, wanted = self.read("blocks/row", f"sites/{name}/checksum")
        row = row.astype(np.int64)
        most = max(1, _VERIFY_BYTES // max(1, int(np.diff(row).max(initial=1)) * self.values(name)[:1].nbytes))
        for length in np.unique(np.diff(row)):
            blocks = np.flatnonzero(np.diff(row) == length)
            for some in np.array_split(blocks, -(-len(blocks) // most)):
                found = xxh64_rows(np.stack([self.values(name)[row[b]:row[b + 1]] for b in some]))
                bad = some[found != wanted[some]]
                if len(bad):
                    b = bad[0]
                    raise StoreError(f"{self.path}: site {name}, block {b} (rows {row[b]} to {row[b + 1]}): "
                                     "the checksum does not match")
