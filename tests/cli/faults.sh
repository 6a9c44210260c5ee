# Killed and starved runs: nothing half-written gets a final name, and a restart ends with the same bytes.
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

# training: the same, from a checkpoint
cp -r "$work/whole" "$work/train"
"$MICROW" train "$work/exp.yaml" --set store="$work/whole" --set train.tokens=200_000 >/dev/null 2>&1 || fail "the whole training"
"$MICROW" train "$work/exp.yaml" --set store="$work/train" --set train.tokens=200_000 >/dev/null 2>&1 &
sleep 0.7
pkill -9 -n -f "train $work/exp.yaml --set store=$work/train" 2>/dev/null
wait
check "restart of training" mpi 2 "$MICROW" train "$work/exp.yaml" --set store="$work/train" --set train.tokens=200_000
check "the same weights" cmp "$work/whole/sae_models/small/sae.safetensors" "$work/train/sae_models/small/sae.safetensors"

# a limit on file sizes stands in for a full disk
checks=$((checks + 1))
(trap '' XFSZ; ulimit -f 16384; "$MICROW" harvest "$work/exp.yaml" --set store="$work/full") >"$work/out" 2>"$work/err"
code=$?
[ $code = 1 ] || fail "exit code $code with a full disk"
grep -q "microw: error" "$work/err" || fail "no message about a full disk"
check "no final file" test ! -e "$work/full/$h5"
check "restart with space" "$MICROW" harvest "$work/exp.yaml" --set store="$work/full"
check "the same bytes" cmp "$work/whole/$h5" "$work/full/$h5"

# a small file system, where it may be mounted
mkdir "$work/tmpfs"
if mount -t tmpfs -o size=4m tmpfs "$work/tmpfs" 2>/dev/null; then
    refuses 1 "are free" "$MICROW" harvest "$work/exp.yaml" --set store="$work/tmpfs/store"
    mpi 2 "$MICROW" harvest "$work/exp.yaml" --set store="$work/tmpfs/store" >/dev/null 2>&1 && fail "2 ranks went on without space"
    umount "$work/tmpfs"
fi
finish
