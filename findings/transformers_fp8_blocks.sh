#!/bin/bash
# Guess: without a GPU transformers multiplies 8-bit weights by the scale of their block, [128, 128] as in weight_block_size.
# What happens (transformers 5.24.0): it divides a matrix into as many equal parts as there are scales. A side that is no
# multiple of 128 gets blocks of another size: of 192 rows the scale of the second block begins at row 96, and the weights
# are wrong without a warning; 576 rows (DeepSeek-V3's kv_a_proj) are refused. The format has row i in block i / 128
# (DeepSeek-V3, inference/kernel.py).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q transformers==5.24.0 torch==2.15.0
"$work/env/bin/python" - <<'END_PYTHON'
import sys
import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

def expanded(rows, scales):
    stored = torch.ones(rows, 128).to(torch.float8_e4m3fn)
    return Fp8Dequantize(None)._dequantize_one(stored, torch.tensor(scales).view(-1, 1), torch.float32)[:, 0]

first = int((expanded(192, [1.0, 2.0]) == 2).nonzero()[0])
print("192 rows: the second block begins at row", first, "(the format: 128)")
try:
    expanded(576, [1.0] * 5)
    refused = False
except ValueError as error:
    print("576 rows:", error)
    refused = True
print("as described" if first == 96 and refused else "this has changed")
sys.exit(0 if first == 96 and refused else 1)
END_PYTHON
