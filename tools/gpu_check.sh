#!/usr/bin/env bash
# One command on a machine with a GPU: builds, runs what CI can only emulate, and measures. Under nine minutes on 16 cores.
#     tools/gpu_check.sh [OUT]
# OUT (build-cuda/gpu_check) gets tests.log, memcheck.*.log, racecheck.*.log, step.jsonl, forward.jsonl, clocks.csv and, with torch and
# transformers, torch.jsonl and transformers.jsonl. What to expect: docs/gpu-roofline.md; what to look at: docs/gpu-unknowns.md.
# The nvcc build is for the GPU that is here alone. Ends with 1 if anything failed; a machine without a GPU ends with 77.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-build-cuda/gpu_check}
command -v nvidia-smi >/dev/null && nvidia-smi -L || { echo "gpu_check: no GPU here"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=0
need() { # need NAME COMMAND...: says how it went, and goes on
    name=$1
    shift
    start=$SECONDS
    if "$@"; then echo "gpu_check: $name: good, $((SECONDS - start)) s"; else
        echo "gpu_check: $name: FAILED, $((SECONDS - start)) s"
        failed=1
    fi
}
logged() { # logged FILE COMMAND...
    file=$out/$1
    shift
    "$@" >"$file" 2>&1 || { tail -20 "$file"; return 1; }
}

mkdir -p "$out"
need configure logged configure.log cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES=native
need build logged build.log cmake --build --preset cuda --target all bench
[ $failed = 0 ] || exit 1

need tests logged tests.log timeout 200 ctest --preset cuda -R 'cuda|cli.device' --no-tests=error
grep -q Skipped "$out/tests.log" && { echo "gpu_check: FAILED: tests were skipped"; failed=1; }

if cmake --build --preset cuda --target help | grep -q memcheck.backend; then
    for tool in memcheck racecheck; do
        for suite in backend backend_training; do
            need "$tool $suite" logged "$tool.$suite.log" timeout 60 cmake --build --preset cuda --target $tool.$suite
        done
    done
fi

# Figures depend on clocks, power and heat, twice a second.
nvidia-smi --format=csv --loop-ms=500 --query-gpu=timestamp,name,driver_version,pstate,clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu,ecc.mode.current,compute_mode \
    >"$out/clocks.csv" 2>&1 &
clocks=$!
trap 'kill $clocks' EXIT
step() { # the shapes of GPT-2 small, Gemma 2 2B and Llama 3 8B
    for precision in f32 tf32 bf16; do
        timeout 60 build-cuda/tools/bench/bench_sae_step --json --device cuda --precision $precision --shape 768,24576,32,8192 \
            --shape 2304,65536,64,8192 --shape 4096,131072,64,4096 || return 1
    done
}
step >"$out/step.jsonl" || failed=1
cat "$out/step.jsonl"
# Tokens/s with a site taken out, as a harvest does: GPT-2 small, and the shape of Llama 3.2 1B.
forward() { # forward MODEL SITE
    build-cuda/tools/bench/bench_model "$1" "$out/$1" || return 1
    for dtype in f32 bf16; do
        printf '{"model":"%s",' "$1"
        timeout 60 build-cuda/tools/bench/bench_forward --model "$out/$1" --site "$2" --device cuda --dtype $dtype --batch 64 \
            --context 256 --rounds 7 | cut -c2- || return 1
    done
}
{ forward gpt2 8.resid_post && forward llama-1b 8.resid_post; } >"$out/forward.jsonl" || failed=1
cat "$out/forward.jsonl"
if python3 -c 'import transformers' 2>/dev/null; then
    for model in gpt2 llama-1b; do
        timeout 60 python3 tools/bench/forward.py --json --device cuda --bench build-cuda/tools/bench/bench_forward \
            --model "$out/$model" --batch 64 --context 256
    done >"$out/transformers.jsonl" || failed=1
    cat "$out/transformers.jsonl"
fi
rm -rf "$out/gpt2" "$out/llama-1b"
if python3 -c 'import torch' 2>/dev/null; then
    need torch logged torch.jsonl timeout 120 python3 tools/bench/sae_step_torch.py --json --compile --precision bf16 \
        --bench build-cuda/tools/bench/bench_sae_step --shape 768,24576,32,8192
    cat "$out/torch.jsonl"
fi
echo "gpu_check: $([ $failed = 0 ] && echo all good || echo FAILED), $SECONDS s, $(date -u +%F), $(git describe --always --dirty)"
exit $failed
