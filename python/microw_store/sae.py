"""Reader of microw's SAEs, with encode and decode in numpy as they are outside training: a reference for comparisons.

Everything is float32, as in microw: pre-activations are products and sums in float32, and are compared with thresholds
in float32. Only the order of the sums in a product differs, which changes a pre-activation by about 1e-6 of its size: a
latent that is this close to the threshold of selection may be active in one and silent in the other.
"""
import json
import os
from dataclasses import dataclass, field

import numpy as np

from .bits import xxh64, xxh64_rows
from .errors import StoreError
from .safetensors import read_safetensors

# In the order of microw's numbers for them, which the hash of the weights contains.
VARIANTS = ("topk", "batch_topk", "multi_topk", "matryoshka_topk", "matryoshka_batch_topk", "relu", "jump_relu", "gated",
            "relu_unit_norm")
_TOP_K = ("topk", "multi_topk", "matryoshka_topk")
_ONE_THRESHOLD = ("batch_topk", "matryoshka_batch_topk")
_EXTRAS = {"jump_relu": ("threshold",), "gated": ("r_mag", "b_mag")}
_VERSIONS = (1, 2)
_CHUNK_FLOATS = 1 << 23  # pre-activations in memory at once


@dataclass
class Codes:
    """Active latents by row: row r has entries start[r] to start[r + 1], latents ascending, values > 0."""

    start: np.ndarray  # int64 [rows + 1]
    index: np.ndarray  # int32
    value: np.ndarray  # float32
    n_latents: int

    def __len__(self):
        return len(self.start) - 1

    def row(self, r):
        span = slice(self.start[r], self.start[r + 1])
        return self.index[span], self.value[span]

    def dense(self):
        z = np.zeros((len(self), self.n_latents), dtype=np.float32)
        z[np.repeat(np.arange(len(self)), np.diff(self.start)), self.index] = self.value
        return z


@dataclass
class Sae:
    variant: str
    n_latents: int
    d_in: int
    d_out: int
    k: int  # 0 if the variant has none
    threshold: float  # BatchTopK: one for all latents; < 0: not trained yet
    groups: list  # Matryoshka: number of latents of each group
    target_widths: list  # widths of the reconstructed sites, which are side by side
    site: str  # sites read, separated by commas, as Store.array takes them
    target: str  # sites rebuilt; "": those read
    model: str
    fingerprint: str
    transcoder: bool
    config: dict = field(repr=False)
    weights: dict = field(repr=False)  # W_enc [n, d_in], b_enc [n], W_dec [n, d_out], b_dec [d_out], and more by variant

    # ---- loading ----

    @classmethod
    def load(cls, folder):
        """Reads cfg.json and sae.safetensors of a folder. Raises StoreError if the weights do not have the hash in
        cfg.json."""
        config_path = os.path.join(folder, "cfg.json")
        weights = os.path.join(folder, "sae.safetensors")
        sae = cls._from_config(config_path, _read_config(config_path))
        wanted = sae.config.get("weights")
        # a program that ended between writing the two files leaves the weights under the partial name
        for path in (weights, weights + ".partial"):
            if path == weights or os.path.exists(path):
                sae._read_weights(path)
                if wanted is None or sae.weights_hash() == wanted:
                    return sae
        raise StoreError(f"{weights}: its hash differs from that in cfg.json: the file is damaged, or another process "
                         "writes the folder, or one of the two files was copied here")

    @classmethod
    def _from_config(cls, path, c):
        if c.get("format") != "microw":
            kind = "SAELens" if "architecture" in c else "another tool"
            raise StoreError(f"{path}: not the configuration of a microw SAE, perhaps that of {kind}: `microw import` reads some")
        if c.get("version") not in _VERSIONS:
            raise StoreError(f"{path}: format version {c.get('version')}; this reader knows versions 1 to {_VERSIONS[-1]}")
        if c.get("variant") not in VARIANTS:
            raise StoreError(f"{path}: variant '{c.get('variant')}'; this reader knows {', '.join(VARIANTS)}")
        uses_k = c["variant"] in _TOP_K + _ONE_THRESHOLD
        for key in ("n_latents", "d_in") + (("k",) if uses_k else ()):
            if not isinstance(c.get(key), int) or c[key] < 1:
                raise StoreError(f"{path}: {key}: expected a whole number above 0, found {c.get(key)}")
        d_out = c.get("d_out") or c["d_in"]
        return cls(variant=c["variant"], n_latents=c["n_latents"], d_in=c["d_in"], d_out=d_out,
                   k=c.get("k", 0) if uses_k else 0, threshold=float(np.float32(c.get("threshold", -1))),
                   groups=list(c.get("groups", [])), target_widths=list(c.get("parts") or [d_out]), site=c.get("site", ""),
                   target=c.get("target", ""), model=c.get("model", ""), fingerprint=c.get("fingerprint", ""),
                   transcoder=bool(c.get("d_out")), config=c, weights={})

    def _shapes(self):
        """Returns the shapes of the weights, in the order of the hash."""
        n = self.n_latents
        shapes = {"W_enc": (n, self.d_in), "b_enc": (n,), "W_dec": (n, self.d_out), "b_dec": (self.d_out,)}
        if self.config.get("skip"):
            shapes["W_skip"] = (self.d_out, self.d_in)
        shapes.update({name: (n,) for name in _EXTRAS.get(self.variant, ())})
        return shapes

    def _read_weights(self, path):
        shapes = self._shapes()
        self.weights = read_safetensors(path, shapes)
        for name, shape in shapes.items():
            found = self.weights.get(name)
            if found is None or found.shape != shape:
                raise StoreError(f"{path}: tensor '{name}': expected shape {list(shape)}, found "
                                 f"{'none' if found is None else list(found.shape)}")
            if not np.isfinite(found).all():
                raise StoreError(f"{path}: tensor '{name}': all values must be finite")
        self.weights = {name: self.weights[name] for name in shapes}

    def weights_hash(self):
        """Returns the hash of shape and weights that cfg.json has under `weights`: the sum of XXH64 of (tensor, row,
        XXH64 of the row) over all rows, of XXH64 of (variant, latents, d_in, k), and for BatchTopK of XXH64 of the
        threshold as float32."""
        total = 0
        for i, w in enumerate(self.weights.values()):
            rows = xxh64_rows(w.reshape(len(w), -1))
            facts = np.stack([np.full(len(w), i, dtype="<u8"), np.arange(len(w), dtype="<u8"), rows], axis=1)
            total += int(xxh64_rows(facts).sum(dtype=np.uint64))
        total += xxh64(np.array([VARIANTS.index(self.variant), self.n_latents, self.d_in, self.k], dtype="<u8"))
        if self.variant in _ONE_THRESHOLD:
            total += xxh64(np.array([self.threshold], dtype="<f4"))
        return f"{total % 2**64:016x}"

    # ---- use ----

    def pre_activations(self, x):
        """Returns W_enc (x - b_dec) + b_enc [rows, n]; of a transcoder W_enc x + b_enc."""
        x = self._checked(x)
        centered = x if self.transcoder else x - self.weights["b_dec"]
        return centered @ self.weights["W_enc"].T + self.weights["b_enc"]

    def _checked(self, x):
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ValueError(f"rows of shape {x.shape}: expected [rows, {self.d_in}]")
        finite = np.isfinite(x).all(axis=1)
        if not finite.all():
            raise ValueError(f"row {int(np.flatnonzero(~finite)[0])} is not finite: latents are undefined on it")
        return x

    def select(self, pre):
        """Returns codes [rows, n] of pre-activations, by the variant's selection outside training."""
        if self.variant in _TOP_K:
            return np.where(_largest(pre, self.k) & (pre > 0), pre, np.float32(0))
        if self.variant == "gated":
            w = self.weights
            measured = np.exp(w["r_mag"]) * (pre - w["b_enc"]) + w["b_mag"]
            return np.where((pre > 0) & (measured > 0), measured, np.float32(0))
        if self.variant == "jump_relu":
            level = self.weights["threshold"]
        else:  # ReLU: 0; BatchTopK: its one threshold
            level = np.float32(max(self.threshold, 0) if self.variant in _ONE_THRESHOLD else 0)
        return np.where(pre > level, pre, np.float32(0))

    def _chunks(self, rows):
        step = max(1, _CHUNK_FLOATS // self.n_latents)
        return [slice(at, min(at + step, rows)) for at in range(0, rows, step)]

    def encode(self, x):
        """Returns float32 [rows, n_latents], 0 where a latent is silent. x: [rows, d_in], the rows of `site`."""
        x = self._checked(x)
        z = np.empty((len(x), self.n_latents), dtype=np.float32)
        for rows in self._chunks(len(x)):
            z[rows] = self.select(self.pre_activations(x[rows]))
        return z

    def encode_sparse(self, x):
        """Returns the same as Codes: indices and values of the active latents of each row."""
        x = self._checked(x)
        counts, index, value = [np.zeros(1, np.int64)], [], []
        for rows in self._chunks(len(x)):
            z = self.select(self.pre_activations(x[rows]))
            row, latent = np.nonzero(z)
            counts.append(np.bincount(row, minlength=len(z)))
            index.append(latent.astype(np.int32))
            value.append(z[row, latent])
        return Codes(np.cumsum(np.concatenate(counts)), _joined(index, np.int32), _joined(value, np.float32), self.n_latents)

    def decode(self, codes, x=None):
        """Returns x_hat [rows, d_out] of dense codes or Codes. A skip transcoder adds W_skip x, and needs the encoded
        x."""
        z = codes.dense() if isinstance(codes, Codes) else np.asarray(codes, dtype=np.float32)
        out = z @ self.weights["W_dec"] + self.weights["b_dec"]
        if "W_skip" not in self.weights:
            return out
        if x is None:
            raise ValueError("a skip transcoder needs x besides the codes")
        return out + self._checked(x) @ self.weights["W_skip"].T

    def reconstruct(self, x):
        """Returns decode(encode(x)) [rows, d_out]: the reconstruction of the rows of `target`, or of `site`."""
        x = self._checked(x)
        out = np.empty((len(x), self.d_out), dtype=np.float32)
        for rows in self._chunks(len(x)):
            out[rows] = self.decode(self.select(self.pre_activations(x[rows])), x[rows])
        return out


def _largest(pre, k):
    """Returns the mask of the k largest of each row; among equals the lower latents."""
    if k >= pre.shape[1]:
        return np.ones(pre.shape, dtype=bool)
    last = np.partition(pre, -k, axis=1)[:, -k, None]
    more, equal = pre > last, pre == last
    left = k - more.sum(axis=1, keepdims=True)
    return more | (equal & (np.cumsum(equal, axis=1) <= left))


def _joined(arrays, kind):
    return np.concatenate(arrays) if arrays else np.empty(0, kind)


def _read_config(path):
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except OSError as error:
        raise StoreError(f"{path}: {os.strerror(error.errno)}") from None
    except ValueError as error:
        raise StoreError(f"{path}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise StoreError(f"{path}: not the configuration of a microw SAE")
    return config
