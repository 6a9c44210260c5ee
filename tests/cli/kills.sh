# kill -9 of one rank at random moments of a harvest and of training, at 1 to 3 ranks: no other rank continues or hangs,
# no incomplete file has its final name, and the command repeated at another number of ranks gives the same bytes.
# MICROW_KILLS: number of kills (8); MICROW_KILLS_SEED: their seed.
. "$SOURCE/tests/cli/common.sh"
kills=${MICROW_KILLS:-8}
state=${MICROW_KILLS_SEED:-1}
random() { # random N: sets r to 0 .. N - 1
    state=$(((state * 1103515245 + 12345) % 2147483648))
    r=$((state / 65536 % $1))
}
small | sed 's/limit_documents: 400/limit_documents: 2000/; s/batch: 16/batch: 4/; s/tokens: 40_000/tokens: 150_000/; s/checkpoint_every: 20/checkpoint_every: 7/' >"$work/exp.yaml"
h5=activations/small/activations.h5
sae=sae_models/small/sae.safetensors
"$MICROW" harvest "$work/exp.yaml" --set store="$work/whole" >/dev/null 2>&1 || fail "the whole harvest"
"$MICROW" train "$work/exp.yaml" --set store="$work/whole" >/dev/null 2>&1 || fail "the whole training"

now_ms() { echo $(($(date +%s%N) / 1000000)); }
took() { # took STAGE RANKS: milliseconds of an undisturbed run
    rm -rf "$work/timed"
    [ "$1" = harvest ] || { mkdir -p "$work/timed/activations/small" && cp "$work/whole/$h5" "$work/timed/$h5"; }
    begin=$(now_ms)
    mpi "$2" "$MICROW" "$1" "$work/exp.yaml" --set store="$work/timed" >/dev/null 2>&1 || fail "$1 at $2 ranks"
    echo $(($(now_ms) - begin))
}

in_time=0
kill_one() { # kill_one STAGE RANKS OTHER-RANKS DELAY-MS VICTIM
    store="$work/k"
    rm -rf "$store"
    output=$h5
    [ "$1" = harvest ] || { output=$sae; mkdir -p "$store/activations/small" && cp "$work/whole/$h5" "$store/$h5"; }
    timeout 60 "$MPIRUN" --oversubscribe -np "$2" "$MICROW" "$1" "$work/exp.yaml" --set store="$store" >/dev/null 2>"$work/err" &
    launcher=$!
    sleep "$(printf '%d.%03d' $(($4 / 1000)) $(($4 % 1000)))"
    victims=$(pgrep -f "^$MICROW $1 $work/exp.yaml --set store=$store")
    victim=$(echo $victims | cut -d' ' -f$(($5 % $2 + 1)))
    [ -n "$victim" ] && kill -9 "$victim" 2>/dev/null
    wait $launcher
    code=$?
    what="$1 at $2 ranks, rank $(($5 % $2)) killed after $4 ms"
    checks=$((checks + 4))
    [ $code != 124 ] || fail "hangs: $what"
    ! pgrep -f "^$MICROW $1 $work/exp.yaml --set store=$store" >/dev/null || fail "ranks go on: $what"
    if [ $code != 0 ]; then
        in_time=$((in_time + 1))
        # the kill may come after the file got its final name, when it is complete
        [ ! -e "$store/$output" ] || cmp "$work/whole/$output" "$store/$output" || fail "half a file: $what"
    fi
    timeout 60 "$MPIRUN" --oversubscribe -np "$3" "$MICROW" "$1" "$work/exp.yaml" --set store="$store" >"$work/out" 2>&1 ||
        { fail "restart at $3 ranks: $what"; cat "$work/out" >&2; }
    cmp "$work/whole/$output" "$store/$output" || fail "other bytes: $what"
}

for stage in harvest train; do
    for ranks in 1 2 3; do
        [ $ranks != 1 ] && [ -n "${MICROW_QUICK:-}" ] || time=$(took $stage $ranks) # quick: assumes the same time for all
        eval "${stage}_$ranks=$time"
    done
done
i=0
while [ $i -lt "$kills" ]; do
    [ $((i % 2)) = 0 ] && stage=harvest || stage=train
    random 3; ranks=$((r + 1))
    random 3; other=$((r + 1))
    eval "whole=\$${stage}_$ranks"
    random "$whole"; delay=$r
    random 3; victim=$r
    kill_one $stage $ranks $other $delay $victim
    i=$((i + 1))
done
echo "$kills kills, $in_time before the end"
check "some came in time" test "$in_time" -ge $((kills / 4))
finish
