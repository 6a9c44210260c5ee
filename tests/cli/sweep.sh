# A sweep: shared batches give the bytes of training alone, at any number of ranks and teams; finished points are
# skipped, a point that fails stops no other, and a killed sweep can be resumed.
. "$SOURCE/tests/cli/common.sh"
small | sed '/^steer/d' >"$work/plain.yaml"
cp "$work/plain.yaml" "$work/exp.yaml"
cat >>"$work/exp.yaml" <<'END'
sweep:
  sae.k: [4, 8]
  train.lr: [1e-3, 2e-3]
  points:
    - {name: plain}
    - {name: wide, sae.variant: matryoshka_batch_topk, sae.n_latents: 384, train.tokens: 60_000}
    - {name: cosine, sae: {seed: 3}, train: {schedule: cosine}}
END
"$MICROW" sweep "$work/exp.yaml" --list >"$work/list"
check "twelve points" test "$(wc -l <"$work/list")" = 12
check "their values" grep -q "^7 wide_k8_lr2e-3  sae.variant=matryoshka_batch_topk  sae.n_latents=384" "$work/list"

# alone: each point as a separate experiment
alone() { # alone POINT RANKS ARGUMENTS...
    point=$1
    ranks=$2
    shift 2
    mpi "$ranks" "$MICROW" train "$work/plain.yaml" --set store="$work/alone" --set name="small.$point" --set sae.activations=small "$@" >/dev/null 2>"$work/err" || { cat "$work/err" >&2; fail "$point alone"; }
}
"$MICROW" harvest "$work/plain.yaml" --set store="$work/alone" >/dev/null 2>&1 || fail "harvest"
alone plain_k4_lr1e-3 1 --set sae.k=4 --set train.lr=1e-3
alone wide_k8_lr2e-3 2 --set sae.k=8 --set train.lr=2e-3 --set sae.variant=matryoshka_batch_topk --set sae.n_latents=384 --set train.tokens=60_000
alone cosine_k8_lr1e-3 1 --set sae.k=8 --set train.lr=1e-3 --set sae.seed=3 --set train.schedule=cosine

# MICROW_QUICK: one combination, and no kills, for slow builds
set -- "1" "3" "3 --set sweep.teams=1" "2 --set sweep.memory_gb=0.0001"
[ -z "${MICROW_QUICK:-}" ] || set -- "2 --set sweep.memory_gb=0.0001"
for how in "$@"; do
    set -- $how
    ranks=$1
    shift
    store="$work/s$(echo "$how" | tr -c 'a-z0-9' _)"
    mpi "$ranks" "$MICROW" sweep "$work/exp.yaml" --set store="$store" "$@" >"$work/out" 2>"$work/err" || { fail "sweep at $how"; cat "$work/err" >&2; }
    cat "$work/err" >>"$work/all_err"
    check "all of them at $how" grep -q "12 of 12 points are finished" "$work/out"
    check "no leak at $how" sh -c "! grep -q 'not freed' $work/err"
    for point in plain_k4_lr1e-3 wide_k8_lr2e-3 cosine_k8_lr1e-3; do
        check "$point at $how: the bytes of training alone" cmp "$work/alone/sae_models/small.$point/sae.safetensors" "$store/sae_models/small.$point/sae.safetensors"
    done
    [ -n "${first:-}" ] || first=$store
    for point in $(cut -d' ' -f2 "$work/list"); do
        for f in sae_models/small.$point/sae.safetensors sae_models/small.$point/concepts.json runs/small.$point/evaluate.json; do
            check "$point at $how: $f" cmp "$first/$f" "$store/$f"
        done
    done
done
for f in sweep.json sweep.csv pareto.gp; do check "$f" test -s "$first/runs/small/$f"; done
if command -v gnuplot >/dev/null; then check "a figure" grep -q "</svg>" "$first/runs/small/pareto.svg"; fi
[ -n "${MICROW_QUICK:-}" ] || check "all twelve were trained together" grep -q '"saes":12' "$work/all_err"
check "with little memory one after the other" grep -q '"done":60416,"total":60416' "$work/all_err"

# again: nothing is done twice; one point by its number; only the table
stat -c %Y.%i "$first"/sae_models/*/sae.safetensors >"$work/before"
"$MICROW" sweep "$work/exp.yaml" --set store="$first" >"$work/again" 2>"$work/err"
stat -c %Y.%i "$first"/sae_models/*/sae.safetensors >"$work/after"
check "nothing is trained again" cmp "$work/before" "$work/after"
check "and nothing evaluated" sh -c "! grep -q '^evaluate' $work/again"
rm -r "$first/sae_models/small.plain_k4_lr1e-3"
check "one point" mpi 2 "$MICROW" sweep "$work/exp.yaml" --set store="$first" --point 0
check "the same bytes" cmp "$work/alone/sae_models/small.plain_k4_lr1e-3/sae.safetensors" "$first/sae_models/small.plain_k4_lr1e-3/sae.safetensors"
check "the table" "$MICROW" sweep "$work/exp.yaml" --set store="$first" --table

# one point fails: its penalty overflows, so that the loss is not finite; the others are done, and the failure is
# reported
{
    cat "$work/plain.yaml"
    echo 'sweep: {points: [{name: a, sae.k: 4}, {name: bad, sae.variant: jump_relu, train.l0_target: 1e-200}, {name: b, sae.k: 6}]}'
} >"$work/bad.yaml"
set -- "2 --set sweep.teams=1"
[ -n "${MICROW_QUICK:-}" ] || set -- "1" "2 --set sweep.teams=1" "3"
for how in "$@"; do
    set -- $how
    ranks=$1
    shift
    mpi "$ranks" "$MICROW" sweep "$work/bad.yaml" --set store="$work/bad$ranks" "$@" >"$work/out" 2>"$work/err"
    check "exit code 1 at $how" test $? = 1
    check "the reason at $how" grep -q "the loss is not finite" "$work/err"
    check "the point at $how" grep -q "^point bad: " "$work/out"
    check "the others at $how" grep -q "2 of 3 points are finished" "$work/out"
done
rm -f "$first/sae_models/small.plain_k8_lr1e-3/sae.safetensors" && mkdir "$first/sae_models/small.plain_k8_lr1e-3/sae.safetensors"
rm -rf "$first/sae_models/small.wide_k4_lr2e-3"
"$MICROW" sweep "$work/exp.yaml" --set store="$first" >"$work/out" 2>"$work/err"
check "a point that cannot be saved fails" test $? = 1
check "it is named" grep -q "^point plain_k8_lr1e-3: " "$work/out"
check "another is done beside it" test -s "$first/sae_models/small.wide_k4_lr2e-3/sae.safetensors"
rmdir "$first/sae_models/small.plain_k8_lr1e-3/sae.safetensors"
check "it is done when it can be" "$MICROW" sweep "$work/exp.yaml" --set store="$first"

if [ -z "${MICROW_QUICK:-}" ]; then
# interrupted by a signal, and killed
# only to the program: the daemon that MPI starts for a single process would end it differently
timeout --foreground --preserve-status -s TERM 1.2 "$MICROW" sweep "$work/exp.yaml" --set store="$work/asked" --set train.tokens=300_000 >"$work/out" 2>"$work/err"
code=$?
check "asked to end: exit code $code" test $code = 75 -o $code = 0
cp -r "$work/asked" "$work/killed" 2>/dev/null
check "the sweep goes on" mpi 2 "$MICROW" sweep "$work/exp.yaml" --set store="$work/asked" --set train.tokens=300_000
timeout -s KILL 2 "$MICROW" sweep "$work/exp.yaml" --set store="$work/killed" --set train.tokens=300_000 >/dev/null 2>&1
check "the killed one too" mpi 3 "$MICROW" sweep "$work/exp.yaml" --set store="$work/killed" --set train.tokens=300_000
for point in $(cut -d' ' -f2 "$work/list"); do
    check "$point: the same after both" cmp "$work/asked/sae_models/small.$point/sae.safetensors" "$work/killed/sae_models/small.$point/sae.safetensors"
done
fi

# errors in the file
bad() { # bad TEXT SWEEP-SECTION
    { cat "$work/plain.yaml"; printf '%b' "$2"; } >"$work/wrong.yaml"
    refuses 2 "$1" "$MICROW" sweep "$work/wrong.yaml" --set store="$first"
}
refuses 2 "section 'sweep' is missing" "$MICROW" sweep "$work/plain.yaml"
bad "wrong.yaml:11: sweep: 'dataset.context' is not a key of sae, train" 'sweep:\n  dataset.context: [1, 2]\n'
bad "needs a list of values" 'sweep:\n  sae.k: 3\n'
bad "did you mean 'k_start'" 'sweep:\n  train.k_star: [1, 2]\n'
bad "3.mlp_out is not among harvest.sites" 'sweep:\n  sae.site: [1.resid_post, 3.mlp_out]\n'
{ cat "$work/plain.yaml"; printf 'sweep:\n  train.k_star: [1]\n'; } >"$work/wrong.yaml"
refuses 2 "did you mean 'k_start'" "$MICROW" sweep "$work/wrong.yaml" --set store="$work/unharvested"
check "nothing is harvested before a mistake is told" test ! -e "$work/unharvested/activations"
bad "expected whole number from 1" 'sweep:\n  sae.k: [3, 0]\n'
bad "is the name of two points" 'sweep:\n  points: [{name: a, sae.k: 3}, {name: a, sae.k: 4}]\n'
bad "has no keys and no points" 'sweep: {teams: 2}\n'
refuses 2 "no point '12': expected a name, or a number from 0 to 11" "$MICROW" sweep "$work/exp.yaml" --set store="$first" --point 12
refuses 1 "run \`microw harvest\` first" "$MICROW" sweep "$work/exp.yaml" --set store="$work/none" --point 1
finish
