"""Reader of the safetensors format: eight bytes of length, a JSON header, data."""
import json
import os

import numpy as np

from .bits import to_float32
from .errors import StoreError

_TYPES = {"F32": ("f32", np.dtype("<f4")), "F16": ("f16", np.dtype("<f2")), "BF16": ("bf16", np.dtype("<u2"))}
_HEADER_MAX = 100 << 20


def read_safetensors(path, names=None):
    """Returns {name: float32 array} of the tensors in `names`, or of all; reads f32, f16 and bf16."""
    try:
        with open(path, "rb") as file:
            data = memoryview(file.read())
    except OSError as error:
        raise StoreError(f"{path}: {os.strerror(error.errno)}") from None
    header, body = _split(path, data)
    wanted = header if names is None else {n: header[n] for n in names if n in header}
    return {name: _tensor(path, name, about, body) for name, about in wanted.items() if name != "__metadata__"}


def _split(path, data):
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if size < 0 or size > min(len(data) - 8, _HEADER_MAX):
        raise StoreError(f"{path}: not a safetensors file, or truncated: {len(data)} bytes with a header of {size}")
    try:
        header = json.loads(bytes(data[8:8 + size]))
        described = sum(t["data_offsets"][1] - t["data_offsets"][0] for n, t in header.items() if n != "__metadata__")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise StoreError(f"{path}: the header does not describe tensors") from None
    body = data[8 + size:]
    if described != len(body):
        raise StoreError(f"{path}: the header describes {described} bytes of data, the file has {len(body)}")
    return header, body


def _tensor(path, name, about, body):
    if about.get("dtype") not in _TYPES:
        raise StoreError(f"{path}: tensor '{name}' is {about.get('dtype')}; this reader knows {', '.join(_TYPES)}")
    kind, stored = _TYPES[about["dtype"]]
    begin, end = about["data_offsets"]
    shape = about["shape"]
    if not 0 <= begin <= end <= len(body) or end - begin != int(np.prod(shape, dtype=np.int64)) * stored.itemsize:
        raise StoreError(f"{path}: tensor '{name}' of shape {shape} does not fit bytes {begin} to {end}")
    return to_float32(np.frombuffer(body[begin:end], dtype=stored).reshape(shape), kind)
