#!/bin/bash
# Fuzzes the readers, each target for SECONDS of CPU (600), two at a time. Needs clang and libomp-dev.
#     tools/fuzz.sh [SECONDS] [TARGET ...]
# Findings are in build-fuzz/findings; inputs that extend the coverage are merged into build-fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
shift || true
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz >/dev/null
targets=${*:-safetensors torch tokenizer yaml dataset checkpoint sae model store names discovery}

search() {
    mkdir -p "build-fuzz/corpus/$1" "build-fuzz/findings/$1"
    if "build-fuzz/tests/fuzz_$1" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=20 -max_len=4096 \
        -dict=tests/fuzz/json.dict -artifact_prefix="build-fuzz/findings/$1/" \
        "build-fuzz/corpus/$1" "tests/fuzz/corpus/$1" >"build-fuzz/$1.log" 2>&1; then
        echo "$1: $(grep -ao 'Done.*' "build-fuzz/$1.log"), nothing found; $(grep -ao 'cov: [0-9]*' "build-fuzz/$1.log" | tail -1)"
    else
        echo "$1: FOUND, see build-fuzz/$1.log"
        tail -n 30 "build-fuzz/$1.log"
        return 1
    fi
}
export -f search
export seconds OMP_NUM_THREADS=1 ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
echo $targets | tr ' ' '\n' | xargs -P 2 -I{} bash -c 'search {}'
