#!/bin/sh
# Builds against oneDNN 3.x, which Debian does not have, and runs the test suites that use it.
#     tools/check_onednn3.sh [FOLDER for the library and the build; default a temporary one]
set -eu
folder=${1:-$(mktemp -d)}
source=$(cd "$(dirname "$0")/.." && pwd)
python3 -m pip download -q --no-deps --only-binary=:all: -d "$folder/wheels" \
    onednn-devel-cpu-gomp==2023.2.0 onednn-cpu-gomp==2023.2.0
for wheel in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$folder/lib3"; done
header=$(find "$folder/lib3" -path '*include/dnnl.h')
library=$(find "$folder/lib3" -name 'libdnnl.so.3.*' | head -1)
ln -sf "$(basename "$library")" "$(dirname "$library")/libdnnl.so.3" # wheels contain no links
cmake -S "$source" -B "$folder/build" -G Ninja -DMICROW_CBLAS=OFF -DMICROW_WERROR=ON \
    -DDNNL_INCLUDE="$(dirname "$header")" -DDNNL_LIBRARY="$library" >/dev/null
cmake --build "$folder/build" >/dev/null
LD_LIBRARY_PATH=$(dirname "$library") ctest --test-dir "$folder/build" -R 'backend|unit' --output-on-failure
