"""Exact conversions to float32, and the XXH64 hash of many rows at once."""
import numpy as np

try:
    from xxhash import xxh64_intdigest  # several times faster on long rows
except ImportError:
    xxh64_intdigest = None


def widen_bf16(bits):
    """Returns float32 of bf16 values given as uint16: they are the upper half of its bits."""
    wide = np.asarray(bits).astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def to_float32(values, kind):
    """Returns a new float32 array of values stored as `kind`: "bf16" (as uint16), "f16" or "f32"."""
    if kind == "bf16":
        return widen_bf16(values)
    return np.array(values, dtype=np.float32, order="C")


# ---- XXH64 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), seed 0 ----

_P1, _P2, _P3, _P4, _P5 = (np.uint64(p) for p in (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5))
_STRIPE = 32
_LONG = 1 << 14  # bytes


def _rotate(x, bits):
    return x << np.uint64(bits) | x >> np.uint64(64 - bits)


def _round(lane, word):
    return _rotate(lane + word * _P2, 31) * _P1


def _stripes(words):
    """Returns the hashes of whole stripes, one per row. words: uint64 [rows, 4 * stripes]."""
    rows = words.shape[0]
    start = np.array([_P1 + _P2, _P2, 0, np.uint64(0) - _P1], dtype=np.uint64)
    lanes = np.repeat(start[None, :], rows, axis=0)
    for at in range(0, words.shape[1], 4):
        lanes = _round(lanes, words[:, at:at + 4])
    hashes = sum(_rotate(lanes[:, i], bits) for i, bits in enumerate((1, 7, 12, 18)))
    for i in range(4):
        hashes = (hashes ^ _round(np.uint64(0), lanes[:, i])) * _P1 + _P4
    return hashes


def _tail(hashes, rest):
    """Updates hashes with the bytes after the last whole stripe."""
    at, left = 0, rest.shape[1]
    while left - at >= 8:
        word = np.ascontiguousarray(rest[:, at:at + 8]).view("<u8")[:, 0]
        hashes = _rotate(hashes ^ _round(np.uint64(0), word), 27) * _P1 + _P4
        at += 8
    if left - at >= 4:
        word = np.ascontiguousarray(rest[:, at:at + 4]).view("<u4")[:, 0].astype(np.uint64)
        hashes = _rotate(hashes ^ word * _P1, 23) * _P2 + _P3
        at += 4
    for i in range(at, left):
        hashes = _rotate(hashes ^ rest[:, i].astype(np.uint64) * _P5, 11) * _P1
    return hashes


def xxh64_rows(data):
    """Returns XXH64 of each row of an array, as uint64. Uses the package xxhash if it is installed and rows are
    long."""
    data = np.ascontiguousarray(data)
    raw = data.reshape(data.shape[0], -1).view(np.uint8)
    if xxh64_intdigest and raw.shape[1] >= _LONG:
        return np.array([xxh64_intdigest(row) for row in raw], dtype=np.uint64)
    return _xxh64_rows(raw)


def _xxh64_rows(raw):
    rows, length = raw.shape
    whole = length // _STRIPE * _STRIPE
    with np.errstate(over="ignore"):
        if whole:
            hashes = _stripes(np.ascontiguousarray(raw[:, :whole]).view("<u8"))
        else:
            hashes = np.full(rows, _P5, dtype=np.uint64)
        hashes = _tail(hashes + np.uint64(length), raw[:, whole:])
        hashes = (hashes ^ hashes >> np.uint64(33)) * _P2
        hashes = (hashes ^ hashes >> np.uint64(29)) * _P3
        return hashes ^ hashes >> np.uint64(32)


def xxh64(data):
    """Returns XXH64 of one array or bytes, as int."""
    raw = np.frombuffer(data, dtype=np.uint8) if isinstance(data, (bytes, bytearray)) else np.ascontiguousarray(data)
    return int(xxh64_rows(raw.reshape(1, -1))[0])
