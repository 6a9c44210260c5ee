# tools/gpu_check.sh walks all of its parts with a bundle of the emulated build. $BUNDLE_TESTS: the archive with the tests.
. "$SOURCE/tests/cli/common.sh"
bundle=$BUILD/bundle/$(basename "$BUNDLE_TESTS" .tar.zst)
[ -f "$BUNDLE_TESTS" ] || { echo "skipped: no bundle here; cmake -DMICROW_BUNDLE_TESTS=ON and --target bundle make it"; exit 77; }
[ "$BUNDLE_TESTS" -nt "$MICROW" ] || { echo "skipped: the bundle is older than the program"; exit 77; }
needs bash python3
check_gpu() { # check_gpu CODE ARGUMENTS...
    code=$1
    shift
    checks=$((checks + 1))
    bash "$SOURCE/tools/gpu_check.sh" "$@" >"$work/out" 2>&1
    got=$?
    [ $got = "$code" ] || { fail "exit code $got, expected $code: gpu_check.sh $*"; tail -n 20 "$work/out" >&2; }
}

check_gpu 0 --dry "$bundle" --out "$work/results" --seconds 1500
grep -Ev '^good' "$work/out"
for part in a.doctor a.ceilings b.backend b.backend_training b.screen b.model_golden b.sae_gradients b.variants c.step.bf16.8 c.step.tf32.8 \
    c.step.f32.8 c.pass.gpt2.bf16 c.pass.gpt2.f32 d.two_ranks d.program e.quickstart.cuda e.quickstart.cpu; do
    check "$part is good" grep -q "^good $part " "$work/results/steps.txt"
done
for part in a.driver c.torch c.transformers e.stories f.memcheck g.kernels; do
    check "$part is told of" grep -Eq "^(good|absent) $part" "$work/results/steps.txt"
done
check "figures" python3 - "$work/results/figures.jsonl" <<'END'
import json, sys
figures = [json.loads(line) for line in open(sys.argv[1])]
assert len([f for f in figures if f["step"] == "a.ceilings" and f["rate"] > 0]) == 8
assert all(f["step_s"] > 0 and f["device"] == "cuda" for f in figures if f["step"].startswith("c.step"))
assert {f["device"] for f in figures if f.get("what") == "quickstart"} == {"cuda", "cpu"}
END
check "all output is kept" [ "$(grep -c '^=== ' "$work/results/logs.txt")" = "$(grep -c '^good' "$work/results/steps.txt")" ]
check "a table is made of it" python3 "$SOURCE/tools/gpu_table.py" "$work/results"

# A second call goes on; one that is cut off keeps what it had; what does not fit into the time is left.
check_gpu 0 --dry "$bundle" --out "$work/second" --after "$work/results/steps.txt"
! grep -q '^good' "$work/second/steps.txt" || fail "done twice: $(grep '^good' "$work/second/steps.txt")"
check_gpu 1 --dry "$bundle" --out "$work/none" --seconds 1
check "left" grep -q '^left a.doctor' "$work/none/steps.txt"
bash "$SOURCE/tools/gpu_check.sh" --dry "$bundle" --out "$work/cut" --parts a,d >/dev/null 2>&1 &
pid=$!
tries=0
until grep -q '^good a.ceilings' "$work/cut/steps.txt" 2>/dev/null || [ $tries = 600 ]; do sleep 0.1 && tries=$((tries + 1)); done
sleep 1
kill -KILL $pid
pkill -KILL -f "$bundle/test/bin/test_training" 2>/dev/null
check "figures before the cut" grep -q a.ceilings "$work/cut/figures.jsonl"
check "output at the cut" [ -f "$work/cut/now.log" ]

refuses_gpu() { # refuses_gpu TEXT ARGUMENTS...
    text=$1
    shift
    check_gpu 2 "$@"
    grep -q -- "$text" "$work/out" || fail "no '$text' from gpu_check.sh $*"
}
refuses_gpu "expected a bundle" --dry
refuses_gpu "--seconds: expected a number" --dry "$bundle" --seconds soon
refuses_gpu "--out: expected a value" --dry "$bundle" --out
refuses_gpu "expected letters from a to g" --dry "$bundle" --parts ,
refuses_gpu "unknown argument '--fast'" --fast
refuses_gpu "expected letters from a to g" --dry "$bundle" --parts a,x
refuses_gpu "is not a bundle with tests" --dry "$SOURCE"
refuses_gpu "no such file" --dry "$bundle" --after "$work/nothing"
command -v nvidia-smi >/dev/null || check_gpu 77 "$bundle" --out "$work/real"
finish
