# Several processes with one output: one writes, the others report which; the output is always the complete result of
# one of them. MICROW_RACES: number of races of two harvests (5).
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
exp="$work/exp.yaml"
store="$work/store"
h5="activations/small/activations.h5"
sae="sae_models/small/sae.safetensors"
races=${MICROW_RACES:-5}
[ "${MICROW_QUICK:-}" ] && races=2

# ---- results of each alone
"$MICROW" harvest "$exp" --set store="$work/a" >/dev/null 2>&1 || fail "harvest"
"$MICROW" harvest "$exp" --set store="$work/b" --set harvest.dtype=f16 >/dev/null 2>&1 || fail "harvest in f16"
"$MICROW" train "$exp" --set store="$work/a" >/dev/null 2>&1 || fail "train"
cp -r "$work/a" "$work/c"
rm -r "$work/c/sae_models" "$work/c/runs"
"$MICROW" train "$exp" --set store="$work/c" --set sae.k=9 >/dev/null 2>&1 || fail "train with another k"
lines=$(wc -l <"$work/a/sae_models/small/history.jsonl")

told() { grep -q "is being written by process [0-9]* on .*, since 20.*, last sign of it [0-9]* s ago: wait for it, or give --steal-lock\|was made with other settings" "$1"; }

# ---- two harvests of one name with different settings, at the same time
race=0
while [ $race -lt "$races" ]; do
    race=$((race + 1))
    rm -rf "$store"
    "$MICROW" harvest "$exp" >"$work/out1" 2>"$work/err1" &
    one=$!
    [ $((race % 3)) = 0 ] && sleep 0.0$((race % 7))
    "$MICROW" harvest "$exp" --set harvest.dtype=f16 >"$work/out2" 2>"$work/err2"
    second=$?
    wait $one
    first=$?
    checks=$((checks + 1))
    case "$first$second" in
        01) told "$work/err2" || { fail "race $race: the second was not told"; cat "$work/err2" >&2; } ;;
        10) told "$work/err1" || { fail "race $race: the first was not told"; cat "$work/err1" >&2; } ;;
        *) fail "race $race: exit codes $first and $second"; cat "$work/err1" "$work/err2" >&2 ;;
    esac
    cmp -s "$store/$h5" "$work/$([ $first = 0 ] && echo a || echo b)/$h5" || fail "race $race: the file is not that of the one that ended well"
    check "no lock is left" sh -c "! find $store -name '*.lock*' -o -name '*.partial' | grep -q ."
done

# ---- two trainings of one name
for settings in "sae.k=9" "sae.k=8"; do
    rm -rf "$store"
    mkdir -p "$store"
    cp -r "$work/a/activations" "$store/"
    "$MICROW" train "$exp" >"$work/out1" 2>"$work/err1" &
    one=$!
    "$MICROW" train "$exp" --set $settings >"$work/out2" 2>"$work/err2"
    second=$?
    wait $one
    first=$?
    checks=$((checks + 1))
    case "$settings $first$second" in
        "sae.k=8 00") grep -q "train: complete" "$work/out1" "$work/out2" || fail "both were trained" ;;
        *" 01") told "$work/err2" || { fail "the second training was not told"; cat "$work/err2" >&2; } ;;
        *" 10") told "$work/err1" || { fail "the first training was not told"; cat "$work/err1" >&2; } ;;
        *) fail "trainings: exit codes $first and $second with $settings"; cat "$work/err1" "$work/err2" >&2 ;;
    esac
    winner=$([ $first = 0 ] || [ $settings = sae.k=8 ] && echo a || echo c)
    check "the weights are those of one" cmp "$store/$sae" "$work/$winner/$sae"
    check "and so is the history" test "$(wc -l <"$store/sae_models/small/history.jsonl")" = "$lines"
done

# ---- readers during a write see the complete old file
rm -rf "$store"
cp -r "$work/a" "$store"
"$MICROW" harvest "$exp" --overwrite --set harvest.dtype=f32 --set dataset.limit_documents=0 >"$work/out1" 2>"$work/err1" &
one=$!
while ! ls "$store"/activations/small/*.lock >/dev/null 2>&1 && kill -0 $one 2>/dev/null; do sleep 0.02; done
check "reads what is whole" "$MICROW" inspect "$store/$h5"
check "evaluates on it" sh -c "$MICROW evaluate $exp | grep -q '^evaluate: FVU'"
wait $one || { fail "overwrite while others read"; cat "$work/err1" >&2; }
check "then it is the new one" sh -c "$MICROW inspect $store/$h5 | grep -q f32"

# ---- the lock of a process that has ended is taken over, with a note; that of another host only with --steal-lock
rm -rf "$store"
cp -r "$work/a" "$store"
rm -r "$store/sae_models"
"$MICROW" train "$exp" --set train.tokens=50_000_000 >/dev/null 2>&1 &
one=$!
lock="$store/$sae.lock"
while ! [ -e "$lock" ] && kill -0 $one 2>/dev/null; do sleep 0.02; done
kill -KILL $one
wait $one 2>/dev/null
check "a killed process leaves its lock" test -s "$lock"
cp "$lock" "$work/lock"
"$MICROW" train "$exp" --overwrite >"$work/out" 2>"$work/err" || { fail "a lock of a process that has ended"; cat "$work/err" >&2; }
check "it says so" grep -q "taking over the lock of process $one on .*: the process has ended" "$work/err"
check "and gives it back" test ! -e "$lock"
elsewhere() { sed 's/"host":"[^"]*"/"host":"node17"/; s/"numbering":"[^"]*"/"numbering":"another boot"/; s/"job":"[^"]*"/"job":"4711"/' "$work/lock" >"$lock"; }
elsewhere
refuses 1 "is being written by process $one on node17, job 4711, since .* give --steal-lock if it is surely gone" "$MICROW" train "$exp" --overwrite --set sae.k=9
mpi 3 "$MICROW" train "$exp" --overwrite --set sae.k=9 >"$work/out" 2>"$work/err" && fail "3 ranks took a lock of elsewhere"
check "one message from 3 ranks" test "$(grep -c 'microw: error' "$work/err")" = 1
check "the same job started again takes it over" env SLURM_JOB_ID=4711 SLURM_RESTART_COUNT=1 "$MICROW" train "$exp" --overwrite --set sae.k=9
elsewhere
refuses 1 "node17" env SLURM_JOB_ID=4711 "$MICROW" train "$exp" --overwrite
check "told to" "$MICROW" train "$exp" --overwrite --steal-lock
elsewhere
touch -d '-3 minutes' "$lock"
"$MICROW" train "$exp" --overwrite --set sae.k=7 >"$work/out" 2>"$work/err" || fail "a lock of another host that is gone"
check "it says so" grep -q "taking over the lock of process $one on node17: its host has given no sign of it for two minutes" "$work/err"
elsewhere
sed -i 's/"pulse":[0-9]*,//' "$lock"
touch -d '-3 minutes' "$lock"
refuses 1 "on node17, job 4711, since .*, last sign of it 3 min ago" "$MICROW" train "$exp" --overwrite
: >"$lock"
refuses 1 "is locked by .*, which cannot be read" "$MICROW" train "$exp" --overwrite --set sae.k=9
rm "$lock"

# ---- a holder gives signs of life
"$MICROW" train "$exp" --overwrite --set train.tokens=50_000_000 >/dev/null 2>&1 &
one=$!
while ! [ -e "$lock" ] && kill -0 $one 2>/dev/null; do sleep 0.02; done
touch -d '-3 minutes' "$lock"
sleep 11
check "within ten seconds" [ -n "$(find "$lock" -newermt '-30 seconds')" ]
kill -TERM $one
wait $one 2>/dev/null

# ---- a process that lost its lock does not replace the file of the other
rm -rf "$store"
"$MICROW" harvest "$exp" --set dataset.limit_documents=0 >"$work/out1" 2>"$work/err1" &
one=$!
lock="$store/$h5.lock"
while ! [ -e "$lock" ] && kill -0 $one 2>/dev/null; do sleep 0.02; done
"$MICROW" harvest "$exp" --steal-lock --overwrite >"$work/out" 2>"$work/err" || { fail "a stolen lock"; cat "$work/err" >&2; }
wait $one && fail "the one that lost its lock ended well"
check "it was told" grep -q "lost the lock: another process writes\|another process has replaced it\|is no longer the file" "$work/err1"
check "the other's file is whole" cmp "$store/$h5" "$work/a/$h5"

# ---- processes side by side do not share MPI's folder, which the first to end would remove
mkdir "$work/tmp"
session() { find "$work/tmp" -mindepth 2 -type d | sort; }
TMPDIR=$work/tmp "$MICROW" harvest "$exp" --set name=long --set dataset.limit_documents=0 >"$work/out1" 2>"$work/err1" &
one=$!
while [ -z "$(session)" ] && kill -0 $one 2>/dev/null; do sleep 0.02; done
session >"$work/before"
check "one beside it" env TMPDIR="$work/tmp" "$MICROW" harvest "$exp" --set name=short --set dataset.limit_documents=5
kill -0 $one 2>/dev/null && check "keeps the folder of the other" [ -z "$(session | comm -13 - "$work/before")" ]
check "the other ends well" wait $one
check "folders are removed" [ -z "$(ls "$work/tmp")" ]
TMPDIR=$work/tmp "$MICROW" harvest "$exp" --set name=killed --set dataset.limit_documents=0 >"$work/out1" 2>"$work/err1" &
one=$!
while [ -z "$(session)" ] && kill -0 $one 2>/dev/null; do sleep 0.02; done
kill -KILL $one
wait $one 2>/dev/null
check "a killed process leaves its folder" [ -n "$(ls "$work/tmp")" ]
check "another one" env TMPDIR="$work/tmp" "$MICROW" harvest "$exp" --set name=short2 --set dataset.limit_documents=5
check "removes it" [ -z "$(ls "$work/tmp")" ]

# ---- a folder without hard links, and one that cannot be written
mkdir "$work/disk"
if mount -t tmpfs -o size=30m tmpfs "$work/disk" 2>/dev/null; then
    check "harvest there" "$MICROW" harvest "$exp" --set store="$work/disk"
    mount -o remount,ro "$work/disk"
    refuses 1 "ead-only file system" "$MICROW" train "$exp" --set store="$work/disk"
    umount "$work/disk"
fi
finish
