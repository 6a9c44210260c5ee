#!/bin/bash
# Guess: torch.load reads what the same torch's torch.save has written, in the older format too.
# What happens (torch 2.15.0): with _use_new_zipfile_serialization=False, float8 and uint16 tensors are written without a warning and
# cannot be read: AttributeError. The bytes are intact. Who keeps 8-bit weights in the older format finds out when they are needed.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy==2.2.6
cat >"$work/try.py" <<'END'
import io
import torch

for name in "float32", "bfloat16", "float8_e4m3fn", "float8_e5m2", "uint16":
    file = io.BytesIO()
    torch.save({"a": torch.ones(2).to(getattr(torch, name))}, file, _use_new_zipfile_serialization=False)
    file.seek(0)
    try:
        torch.load(file)
        print(name, "written and read")
    except Exception as error:
        print(name, "written, not read:", type(error).__name__)
END
cd "$work"
seen=$("$work/env/bin/python" try.py 2>/dev/null)
echo "torch 2.15.0"
echo "$seen"
[ "$seen" = "float32 written and read
bfloat16 written and read
float8_e4m3fn written, not read: AttributeError
float8_e5m2 written, not read: AttributeError
uint16 written, not read: AttributeError" ] && echo "as described" && exit 0
echo "this has changed"
exit 1
