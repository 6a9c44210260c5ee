# An SAE sharded over ranks by its latents: the same files as a whole SAE, also after signals and kills, and with
# another number of shards.
. "$SOURCE/tests/cli/common.sh"
small | sed 's/n_latents: 256/n_latents: 1500/' >"$work/exp.yaml"
train="$MICROW train $work/exp.yaml"
sae=sae_models/small/sae.safetensors
"$MICROW" harvest "$work/exp.yaml" --set store="$work/harvested" >/dev/null 2>&1 || fail "harvest"

fresh() { # fresh STORE: makes a store with the harvest
    rm -rf "$1"
    cp -r "$work/harvested" "$1"
}

spread() { # spread RANKS SHARDS [SETTING...]: trains and evaluates, and compares with the whole SAE
    what="$2 shards on $1 ranks $3"
    fresh "$work/spread"
    mpi "$1" "$MICROW" run "$work/exp.yaml" --set store="$work/spread" --set train.shards="$2" $3 >"$work/out" 2>"$work/err" ||
        { fail "$what"; cat "$work/err" >&2; }
    for f in $sae sae_models/small/cfg.json runs/small/evaluate.json runs/small/steer.json; do
        check "$f: $what" cmp "$work/whole/$f" "$work/spread/$f"
    done
    check "nothing else: $what" sh -c "! ls $work/spread/sae_models/small | grep -qE 'tmp|checkpoint'"
    check "no leak: $what" sh -c "! grep -q 'not freed' $work/err"
}

fresh "$work/whole"
"$MICROW" run "$work/exp.yaml" --set store="$work/whole" >/dev/null 2>&1 || fail "the whole"
quick=${MICROW_QUICK:-} # sanitizers are slow
spread 2 2 ""
[ -n "$quick" ] || spread 3 3 ""
[ -n "$quick" ] || spread 4 2 ""
# initial samples and resampled latents do not depend on the shards
other="--set sae.variant=jump_relu --set train.init=data --set train.resample_every=20 --set train.dead_after=4000 --set train.normalize=standard"
fresh "$work/whole"
"$MICROW" run "$work/exp.yaml" --set store="$work/whole" $other >/dev/null 2>&1 || fail "the whole of another variant"
spread 4 2 "$other"

# interrupted with shards, resumed without
long="--set train.tokens=$([ -n "$quick" ] && echo 60_000 || echo 400_000)"
fresh "$work/whole"
$train --set store="$work/whole" $long >/dev/null 2>&1 || fail "the long training"
fresh "$work/broken"
for signal in TERM KILL; do
    mpi 2 $train --set store="$work/broken" $long --set train.shards=2 >"$work/out" 2>"$work/err" &
    launcher=$!
    sleep 1.2
    victim=$(pgrep -f "^$train --set store=$work/broken" | tail -n 1)
    [ -z "$victim" ] || kill -$signal "$victim" 2>/dev/null
    wait $launcher
    code=$?
    [ $code != 124 ] || fail "hangs after SIG$signal of one rank"
    check "no rank goes on after SIG$signal" sh -c "! pgrep -f '^$train --set store=$work/broken'"
    [ $code = 0 ] || check "no half file after SIG$signal" test ! -e "$work/broken/$sae"
done
check "goes on as one" $train --set store="$work/broken" $long
check "the same weights" cmp "$work/whole/$sae" "$work/broken/$sae"

# a sweep of sharded SAEs
if [ -z "$quick" ]; then
    printf 'sweep: {sae.k: [4, 8]}\n' | cat "$work/exp.yaml" - >"$work/sweep.yaml"
    fresh "$work/one"
    fresh "$work/two"
    check "sweep" "$MICROW" sweep "$work/sweep.yaml" --set store="$work/one"
    check "sweep in shards" mpi 2 "$MICROW" sweep "$work/sweep.yaml" --set store="$work/two" --set train.shards=2
    find "$work/one" -name sae.safetensors | sed "s|$work/one/||" >"$work/saes"
    check "two SAEs" test "$(wc -l <"$work/saes")" = 2
    while read -r f; do check "$f of a sweep" cmp "$work/one/$f" "$work/two/$f"; done <"$work/saes"
fi

refuses 2 "train.shards = 2 with 1 rank" $train --set store="$work/harvested" --set train.shards=2 --overwrite
refuses 2 "expected at most 3" "$MPIRUN" --oversubscribe -np 4 $train --set store="$work/harvested" --set train.shards=4 --overwrite
refuses 2 "train.shards: expected whole number from 1" $train --set store="$work/harvested" --set train.shards=0 --overwrite
refuses 2 "train.shards = 3 with 4 ranks" "$MICROW" plan "$work/exp.yaml" --set train.shards=3 --ranks 4
finish
