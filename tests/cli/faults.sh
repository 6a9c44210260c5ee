# Runs that are killed, or have too little space: no incomplete file gets its final name, and a restart gives the same
# bytes.
. "$SOURCE/tests/cli/common.sh"
small | sed 's/limit_documents: 400/limit_documents: 3000/; s/batch: 16/batch: 4/' >"$work/exp.yaml"
h5="activations/small/activations.h5"
"$MICROW" harvest "$work/exp.yaml" --set store="$work/whole" >/dev/null 2>&1 || fail "the whole harvest"

# kill -9 of one rank at several moments; restart at another number of ranks
for delay in 0.3 0.6 1.0; do
    store="$work/killed$delay"
    mpi 2 "$MICROW" harvest "$work/exp.yaml" --set store="$store" >/dev/null 2>&1 &
    launcher=$!
    sleep $delay
    pkill -9 -n -f "harvest $work/exp.yaml --set store=$store" 2>/dev/null
    wait $launcher && echo "the harvest was done before the kill at $delay s"
    check "restart after $delay s" mpi 3 "$MICROW" harvest "$work/exp.yaml" --set store="$store"
    check "the same bytes after $delay s" cmp "$work/whole/$h5" "$store/$h5"
done

# training, from a checkpoint
cp -r "$work/whole" "$work/train"
"$MICROW" train "$work/exp.yaml" --set store="$work/whole" --set train.tokens=200_000 >/dev/null 2>&1 || fail "the whole training"
"$MICROW" train "$work/exp.yaml" --set store="$work/train" --set train.tokens=200_000 >/dev/null 2>&1 &
sleep 0.7
pkill -9 -n -f "train $work/exp.yaml --set store=$work/train" 2>/dev/null
wait
check "restart of training" mpi 2 "$MICROW" train "$work/exp.yaml" --set store="$work/train" --set train.tokens=200_000
check "the same weights" cmp "$work/whole/sae_models/small/sae.safetensors" "$work/train/sae_models/small/sae.safetensors"

# signals: progress is kept, exit code 75, and the same command gives the same bytes, also at another number of ranks
asked() { # asked SIGNAL DELAY COMMAND...
    checks=$((checks + 1))
    signal=$1
    delay=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null &
    process=$!
    sleep "$delay"
    kill "-$signal" $process 2>/dev/null
    wait $process
    code=$?
    [ $code = 75 ] || [ $code = 0 ] || { fail "exit code $code after SIG$signal: $*"; cat "$work/err" >&2; }
    [ $code = 75 ] && interrupted=$((interrupted + 1))
    if [ $code = 75 ] && ! grep -q "interrupted by signal" "$work/err"; then fail "nothing said about SIG$signal: $*"; fi
    ! grep -q 'were not freed' "$work/err" || fail "memory was not freed after SIG$signal: $*"
}
interrupted=0
store="$work/asked"
for signal in TERM USR1 INT; do asked $signal 0.25 "$MICROW" harvest "$work/exp.yaml" --set store="$store"; done
check "the harvest goes on" mpi 3 "$MICROW" harvest "$work/exp.yaml" --set store="$store"
check "the same activations" cmp "$work/whole/$h5" "$store/$h5"
long="--set train.tokens=200_000 --set train.checkpoint_every=0"
for signal in TERM USR1 INT; do asked $signal 0.5 "$MICROW" train "$work/exp.yaml" --set store="$store" $long; done
check "the training goes on" mpi 2 "$MICROW" train "$work/exp.yaml" --set store="$store" $long
check "one of six was in time" test "$interrupted" -ge 1
check "the same weights" cmp "$work/whole/sae_models/small/sae.safetensors" "$store/sae_models/small/sae.safetensors"
check "no checkpoint is left" sh -c "! ls $store/sae_models/small | grep -q checkpoint"

# newest checkpoint with one bit flipped: the one before it is used
(ulimit -t 600; "$MICROW" train "$work/exp.yaml" --set store="$store" --set name=turned --set train.tokens=200_000) >/dev/null 2>&1 &
process=$!
for i in $(seq 100); do
    [ "$(ls "$store/sae_models/turned" 2>/dev/null | grep -c '^checkpoint-.*safetensors$')" = 2 ] && break
    sleep 0.02
done
pkill -9 -n -f "train $work/exp.yaml --set store=$store --set name=turned"
wait $process
newest=$(ls "$store/sae_models/turned" | grep '^checkpoint-.*safetensors$' | tail -1)
if [ -n "$newest" ]; then
    at=$(($(stat -c %s "$store/sae_models/turned/$newest") / 2))
    printf '\377' | dd of="$store/sae_models/turned/$newest" bs=1 seek=$at conv=notrunc 2>/dev/null
    mpi 2 "$MICROW" train "$work/exp.yaml" --set store="$store" --set name=turned --set train.tokens=200_000 >"$work/out" 2>"$work/err" || fail "restart"
    check "says that it is damaged" grep -q "$newest is damaged" "$work/err"
    check "the one before is used" grep -q "resuming training at step" "$work/err"
    check "the same weights again" cmp "$work/whole/sae_models/small/sae.safetensors" "$store/sae_models/turned/sae.safetensors"
fi

# a limit of file sizes, in place of a full disk
checks=$((checks + 1))
(trap '' XFSZ; ulimit -f 16384; "$MICROW" harvest "$work/exp.yaml" --set store="$work/full") >"$work/out" 2>"$work/err"
code=$?
[ $code = 1 ] || fail "exit code $code with a full disk"
grep -q "microw: error" "$work/err" || fail "no message about a full disk"
check "no final file" test ! -e "$work/full/$h5"
check "restart with space" "$MICROW" harvest "$work/exp.yaml" --set store="$work/full"
check "the same bytes" cmp "$work/whole/$h5" "$work/full/$h5"

# a small file system, if it can be mounted
mkdir "$work/tmpfs"
if mount -t tmpfs -o size=4m tmpfs "$work/tmpfs" 2>/dev/null; then
    refuses 1 "are free" "$MICROW" harvest "$work/exp.yaml" --set store="$work/tmpfs/store"
    mpi 2 "$MICROW" harvest "$work/exp.yaml" --set store="$work/tmpfs/store" >/dev/null 2>&1 && fail "2 ranks went on without space"
    umount "$work/tmpfs"
fi
finish
