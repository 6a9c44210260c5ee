#!/usr/bin/env bash
# Tests and measures a build with CUDA on a real GPU, from a bundle alone: builds and installs nothing.
#     tools/gpu_check.sh BUNDLE [--out DIR] [--parts a,c] [--seconds N] [--after FILE] [--data DIR] [--dry]
# BUNDLE is a bundle with tests, unpacked or not (cmake -DMICROW_CUDA=ON -DMICROW_BUNDLE_TESTS=ON, target `bundle`);
# tools/gpu_pack.sh packs one for another machine. Parts, the most important first; all take about 8 minutes on one H100:
#     a  driver, memory, rates of copies and products        b  test suites of backend, models, gradients, variants
#     c  steps of SAEs and passes of models, beside torch and transformers if they are installed
#     d  ranks: NCCL with one, two on one GPU, the program at 1 and 2 ranks      e  experiments on the GPU and the CPU
#     f  compute-sanitizer: memcheck, racecheck                  g  ncu: the largest kernels
# --out     folder of the results: steps.txt (one line per step), figures.jsonl, clocks.csv, logs.txt (gpu-check)
# --parts   runs only these parts
# --seconds time limit; steps that have not begun are "left" (480)
# --after   steps.txt of an earlier call, whose good steps are not repeated
# --data    a folder with stories260K-hf and tinystories_2M.txt, for part e
# --dry     small sizes; a missing GPU, torch or profiler is no failure: for a build that emulates the GPU
# Exit code 0: all good; 1: a step failed or is left; 77: no GPU. May be interrupted at any time: results are kept.
# Expected results: docs/running/gpu-roofline.md; open questions: docs/running/gpu-unknowns.md.
set -uo pipefail
bundle= out=gpu-check parts=abcdefg seconds=480 after= data= dry=
usage() {
    echo "gpu_check: $1; see the head of $0" >&2
    exit 2
}
value() { # value OPTION REST...: checks that a value follows the option
    [ $# -gt 1 ] && [ -n "$2" ] || usage "$1: expected a value"
}
while [ $# -gt 0 ]; do
    case $1 in
    --out) value "$@"; out=$2; shift ;;
    --parts) value "$@"; parts=$2; shift ;;
    --seconds) value "$@"; seconds=$2; shift ;;
    --after) value "$@"; after=$2; shift ;;
    --data) value "$@"; data=$2; shift ;;
    --dry) dry=1 ;;
    -*) usage "unknown argument '$1'" ;;
    *) bundle=$1 ;;
    esac
    shift
done
[ -n "$bundle" ] || usage "expected a bundle: $0 BUNDLE [--out DIR]"
[ -z "$after" ] || [ -f "$after" ] || usage "$after: no such file"
[ -z "$data" ] || data=$(cd "$data" 2>/dev/null && pwd) || usage "--data: no such folder"
[[ $seconds =~ ^[0-9]+$ ]] || usage "--seconds: expected a number, found '$seconds'"
[[ $parts =~ ^[a-g](,?[a-g])*$ ]] || usage "--parts: expected letters from a to g, found '$parts'"

work=$(mktemp -d) || exit 1
clocks= child=
trap '[ -z "$clocks" ] || kill $clocks 2>/dev/null; rm -rf "$work"' EXIT
# A running step would hold the GPU.
trap '[ -z "$child" ] || kill -TERM $child 2>/dev/null; wait; exit 143' TERM INT HUP
if [ -f "$bundle" ]; then
    mkdir "$work/bundle"
    case $bundle in
    *.zst) tar --zstd -xf "$bundle" -C "$work/bundle" ;;
    *) tar -xf "$bundle" -C "$work/bundle" 2>/dev/null || python3 -m tarfile -e "$bundle" "$work/bundle" ;;
    esac || { echo "gpu_check: $bundle cannot be unpacked" >&2; exit 1; }
    bundle=$(echo "$work"/bundle/*)
fi
root=$(cd "$bundle" 2>/dev/null && pwd) || { echo "gpu_check: $bundle: no such folder" >&2; exit 2; }
[ -f "$root/test/list.sh" ] || { echo "gpu_check: $root is not a bundle with tests (-DMICROW_BUNDLE_TESTS=ON)" >&2; exit 2; }
mkdir -p "$out" && out=$(cd "$out" && pwd) && touch "$out/steps.txt" || exit 1
export PATH="$root/bin:$PATH" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}" # containers often forbid it
[ -z "$dry" ] || export ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1
command -v nvidia-smi >/dev/null || [ -n "$dry" ] || { echo "gpu_check: no GPU here"; exit 77; }

failed=0 left=0

say() {
    echo "$*" | tee -a "$out/steps.txt"
}

wanted() { # wanted NAME: whether its part is selected, and it was not good before
    [[ $parts == *${1%%.*}* ]] && ! { [ -n "$after" ] && grep -qF "good $1 " "$after"; }
}

# step NAME SECONDS COMMAND...: its output is in now.log while it runs, then in logs.txt; lines of JSON are figures
step() {
    local name=$1 limit=$2 start=$SECONDS code
    shift 2
    wanted "$name" || return 0
    if [ $((seconds - SECONDS)) -lt 5 ]; then
        left=$((left + 1))
        say "left $name"
        return 1
    fi
    [ "$limit" -le $((seconds - SECONDS)) ] || limit=$((seconds - SECONDS))
    (cd "$root/test" && exec timeout -k 3 "$limit" "$@") >"$out/now.log" 2>&1 </dev/null &
    child=$!
    wait $child
    code=$?
    child=
    sed -n "s/^{/{\"step\":\"$name\",/p" "$out/now.log" >>"$out/figures.jsonl"
    { echo "=== $name: $*"; cat "$out/now.log"; } >>"$out/logs.txt"
    if [ $code = 0 ]; then
        say "good $name $((SECONDS - start)) s"
    else
        failed=$((failed + 1))
        say "FAILED $name $((SECONDS - start)) s, exit code $code"
        tail -n 8 "$out/now.log"
    fi
    rm -f "$out/now.log"
    return $code
}

absent() { # absent NAME WHAT
    wanted "$1" && say "absent $1: no $2 here"
    return 0
}

tool() { # tool NAME: prints its path, also if the toolkit is not in PATH
    command -v "$1" || ls /usr/local/cuda/bin/"$1" /usr/local/cuda/nsight-compute*/"$1" 2>/dev/null | head -n 1 | grep .
}

has_module() {
    python3 -c "import $1" 2>/dev/null
}

bench() { # bench NAME SECONDS PROGRAM ARGUMENTS...
    local name=$1 limit=$2 program=$3
    shift 3
    step "$name" "$limit" "$root/bin/microw-env" "$root/test/bin/bench_$program" "$@"
}

suite() { # suite NAME SECONDS TEST: runs tests by the runner; none may be skipped
    step "$1" "$2" "$root/test/run_tests.sh" --only "^$3\$" --out "$work/$1" --none-skipped
}

sizes_c="768,24576,32,8192 2304,65536,64,8192 4096,131072,64,4096"
models="gpt2 llama-1b" batch=64 context=256 rounds=9
[ -z "$dry" ] || { sizes_c="8,64,4,32"; models=gpt2; batch=1; context=8; rounds=1; }
dry_bench=${dry:+--rounds 1}

# ---- a -----------------------------------------------------------------------------------------------------------

part_a() {
    if tool nvidia-smi >/dev/null; then step a.driver 20 nvidia-smi; else absent a.driver nvidia-smi; fi
    step a.doctor 60 "$root/bin/microw" doctor --store "$out"
    bench a.ceilings 60 device --device cuda ${dry:+--megabytes 1 --side 64} $dry_bench
}

# ---- b -----------------------------------------------------------------------------------------------------------

part_b() {
    for one in backend backend_training screen model_golden sae_gradients variants; do suite "b.$one" 100 "$one\\.cuda"; done
}

# ---- c -----------------------------------------------------------------------------------------------------------

begin_clocks() { # results depend on clocks, power and temperature
    command -v nvidia-smi >/dev/null && [ -z "$clocks" ] || return 0
    nvidia-smi --format=csv --loop-ms=500 --query-gpu=timestamp,name,driver_version,pstate,clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu,ecc.mode.current,compute_mode \
        >>"$out/clocks.csv" 2>&1 &
    clocks=$!
}

steps_of() { # steps_of PRECISION
    for shape in $sizes_c; do
        bench "c.step.$1.${shape%%,*}" 60 sae_step --json --device cuda --precision "$1" --shape "$shape" $dry_bench ${dry:+--side 16}
    done
}

torch_steps() {
    has_module torch || { [ -z "$dry" ] && has_module numpy; absent c.torch torch; return; }
    for shape in $sizes_c; do
        step "c.torch.${shape%%,*}" 100 python3 tools/bench/sae_step_torch.py --json --compile --device cuda --precision bf16 \
            --bench "$work/bench_sae_step" --shape "$shape"
    done
}

passes() {
    for model in $models; do
        wanted c.pass && { microw-env "$root/test/bin/bench_model" "$model" "$work/$model" >"$work/made" 2>&1 || cat "$work/made"; }
        for dtype in bf16 f32; do
            bench "c.pass.$model.$dtype" 60 forward --model "$work/$model" --site 8.resid_post --device cuda --dtype $dtype \
                --batch $batch --context $context --rounds $rounds
        done
        if has_module transformers; then
            step "c.transformers.$model" 80 python3 tools/bench/forward.py --json --device cuda --bench "$work/bench_forward" \
                --model "$work/$model" --batch $batch --context $context
        else
            absent "c.transformers.$model" transformers
        fi
        rm -rf "${work:?}/$model"
    done
}

part_c() {
    for name in sae_step forward; do # for the Python scripts, which start one program
        printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$root/bin/microw-env" "$root/test/bin/bench_$name" >"$work/bench_$name"
        chmod +x "$work/bench_$name"
    done
    begin_clocks
    steps_of bf16
    passes
    torch_steps
    steps_of tf32
    steps_of f32
}

# ---- d -----------------------------------------------------------------------------------------------------------

part_d() {
    export NCCL_DEBUG=VERSION
    [ -n "$dry" ] || suite d.one_rank 60 'mpi\.training\.1\.cuda' # the emulated build has two
    suite d.two_ranks $((dry ? 300 : 150)) 'mpi\.training\.2\.cuda'
    suite d.program 150 'cli\.device'
    unset NCCL_DEBUG
}

# ---- e -----------------------------------------------------------------------------------------------------------

# timed WHAT DEVICE STAGES ARGUMENTS...: times all stages as one figure
timed() {
    local what=$1 device=$2 stages=$3 start end stage
    shift 3
    start=$(date +%s.%N)
    for stage in $stages; do microw "$stage" "$@" --quiet || return 1; done
    end=$(date +%s.%N)
    echo "{\"what\":\"$what\",\"device\":\"$device\",\"seconds\":$(echo "$end $start" | awk '{ printf "%.2f", $1 - $2 }')}"
}

experiment() { # experiment NAME SECONDS FILE ARGUMENTS...
    local name=$1 limit=$2 file=$3
    shift 3
    for device in cuda cpu; do
        step "e.$name.$device" "$limit" bash -c "$(declare -f timed); timed \"\$@\"" bash "$name" $device "$stages_e" "$file" \
            --set store="$work/$name.$device" --set model.device=$device "$@"
        rm -rf "${work:?}/$name.$device"
    done
}

part_e() {
    local stages_e=run
    [ -z "$dry" ] || stages_e="harvest train discover"
    experiment quickstart 90 "$root/configs/quickstart.yaml" \
        ${dry:+--set dataset.limit_documents=40 --set train.tokens=2048 --set train.batch=256 --set sae.n_latents=64}
    if [ -d "$data/stories260K-hf" ]; then
        experiment stories 90 "$root/configs/stories260k.yaml" --set model.path="$data/stories260K-hf" --set dataset.path="$data/tinystories_2M.txt"
    else
        absent e.stories.cuda "folder with stories260K-hf (--data)"
    fi
}

# ---- f, g --------------------------------------------------------------------------------------------------------

part_f() {
    local sanitizer
    sanitizer=$(tool compute-sanitizer) || { absent f.memcheck.backend compute-sanitizer; return; }
    for check in memcheck racecheck; do
        for one in backend backend_training screen; do
            step "f.$check.$one" 90 "$root/bin/microw-env" "$sanitizer" --tool $check --error-exitcode 1 "$root/test/bin/test_$one" cuda
        done
    done
}

part_g() {
    local ncu
    ncu=$(tool ncu) || { absent g.kernels ncu; return; }
    step g.kernels 90 "$root/bin/microw-env" "$ncu" --set basic --kernel-name "regex:add_spans|dots|adam_of_unit_rows|top_few" --launch-count 6 \
        "$root/test/bin/bench_sae_step" --device cuda --precision bf16 --shape 2304,65536,64,8192 --rounds 1
}

for part in a b c d e f g; do
    [[ $parts == *$part* ]] && part_$part
done
[ -z "$clocks" ] || kill $clocks 2>/dev/null
clocks=
say "gpu_check: $([ $failed = 0 ] && [ $left = 0 ] && echo all good || echo "$failed failed, $left left"), $SECONDS s, $(date -u +%F), $("$root/bin/microw" --version)"
[ $failed = 0 ] && [ $left = 0 ]
