# Several hosts, made of this machine by tools/hosts_local.sh: the same bytes as one process, also with a sharded SAE;
# hosts that do not share the store, or cannot write it, or have other inputs; a lost host, and a cut cable.
. "$SOURCE/tests/cli/common.sh"
hosts="$SOURCE/tools/hosts_local.sh"
trap '"$hosts" down "$work" 2>/dev/null; rm -rf "$work"' EXIT
"$hosts" up "$work" 3 "$SOURCE" "$(dirname "$MICROW")" >"$work/start" 2>&1
code=$?
[ $code = 0 ] || { cat "$work/start"; exit $code; }
export LAUNCHER="$MPIRUN"
three="$hosts mpi $work h1:1,h2:1,h3:1"
sae=sae_models/small/sae.safetensors
h5=activations/small/activations.h5
cd "$work" || exit 1
begun=$(date +%s)
part() { echo "$(($(date +%s) - begun)) s: $1"; }
small | sed 's/n_latents: 256/n_latents: 1536/; s/tokens: 40_000/tokens: 20_000/' >"$work/exp.yaml"
files="$h5 $sae sae_models/small/concepts.json sae_models/small/names.csv runs/small/evaluate.json runs/small/steer.json"
errors() { grep -c 'microw: error' "$work/err"; }
wait_for() { # wait_for SECONDS COMMAND...
    i=$(($1 * 10))
    shift
    while ! "$@" >/dev/null 2>&1; do
        i=$((i - 1))
        [ $i -gt 0 ] || { fail "waited in vain for: $*"; return 1; }
        sleep 0.1
    done
}

part "the same bytes"
"$MICROW" run exp.yaml --set store="$work/one" >"$work/out" 2>&1 || { fail "one process"; cat "$work/out" >&2; }
check "the hosts have their own names" sh -c "timeout 60 $three hostname 2>/dev/null | sort | tr '\n' ' ' | grep -q '^h1 h2 h3 $'"
timeout 100 $three "$MICROW" run exp.yaml --set store="$work/three" >"$work/out" 2>"$work/err" || { fail "three hosts"; cat "$work/err" >&2; }
for f in $files; do check "$f of three hosts" cmp "$work/one/$f" "$work/three/$f"; done
check "no leak" sh -c "! grep -q 'not freed' $work/err"
mkdir -p "$work/sharded"
cp -r "$work/one/activations" "$work/sharded/"
timeout 100 $three "$MICROW" run exp.yaml --set store="$work/sharded" --set train.shards=3 >"$work/out" 2>"$work/err" ||
    { fail "an SAE sharded over three hosts"; cat "$work/err" >&2; }
for f in $sae runs/small/evaluate.json runs/small/steer.json; do check "$f in shards" cmp "$work/one/$f" "$work/sharded/$f"; done

part "a store that is not shared, is missing, or is read-only on one host"
mkdir "$work/apart" "$work/fixed"
"$hosts" hide "$work" h2 "$work/apart"
refuses 2 "rank 1 on h2: ranks differ in the store: on this rank $work/apart/store, on host h2, is not the folder of rank 0, on host h1; all" \
    $three "$MICROW" harvest exp.yaml --set store="$work/apart/store"
check "one message" [ "$(errors)" = 1 ]
check "nothing is left on h1" [ -z "$(find "$work/apart" -type f)" ]
check "nothing is left on h2" [ -z "$("$hosts" on "$work" h2 find "$work/apart" -type f)" ]
cp -r "$work/one/activations" "$work/apart/"
refuses 1 "rank 1 on h2: $work/apart/$h5: there is no such file" $three "$MICROW" train exp.yaml --set store="$work/apart"
"$hosts" readonly "$work" h2 "$work/fixed"
refuses 1 "rank 1 on h2: $work/fixed: host h2 cannot write there" $three "$MICROW" harvest exp.yaml --set store="$work/fixed"
check "nothing is left there" [ -z "$(find "$work/fixed" -type f)" ]

part "other inputs on one host"
mkdir "$work/input" "$work/copy"
cp -r "$SOURCE/configs/demo/model" "$work/copy/"
chmod -R u+w "$work/copy/model"
head -n 300 "$SOURCE/configs/demo/corpus.txt" >"$work/copy/corpus.txt"
small | sed "s#$SOURCE/configs/demo/#./#g; s#^store:.*#store: $work/three#; /^discover/d; /^steer/d" >"$work/copy/exp.yaml"
cp -r "$work/copy/." "$work/input/"
"$hosts" hide "$work" h2 "$work/input"
differs() { # differs TEXT CHANGE: CHANGE is made to h2's own copy
    "$hosts" on "$work" h2 sh -c "rm -rf $work/input/* && cp -r $work/copy/. $work/input/ && cd $work/input && $2" >/dev/null 2>&1 || fail "$2"
    refuses 2 "microw: error: rank 1 on h2: ranks differ in $1" $three "$MICROW" harvest "$work/input/exp.yaml" --set name=other
    check "one message: $1" [ "$(errors)" = 1 ]
}
differs "the model's files" "printf '\001' | dd of=model/model.safetensors bs=1 seek=200000 conv=notrunc"
differs "the dataset's files: here .*corpus.txt, [0-9]* bytes" "echo one more story . >>corpus.txt"
differs "the settings: here '  batch: 8', on rank 0 '  batch: 16'" "sed -i 's/batch: 16/batch: 8/' exp.yaml"

part "a cut cable while an SAE trains: mpirun notices, names the host, and the next run goes on"
long="train exp.yaml --set name=long --set sae.activations=small --set train.tokens=60_000"
mkdir "$work/alone"
cp -r "$work/one/activations" "$work/alone/"
"$MICROW" $long --set store="$work/alone" >/dev/null 2>&1 || fail "the longer training"
LAUNCHER="$SOURCE/jobs/mpirun.sh" timeout -k 5 100 $three "$MICROW" $long --set store="$work/one" >"$work/out" 2>"$work/err" &
one=$!
wait_for 40 sh -c "ls $work/one/sae_models/long/checkpoint-*"
"$hosts" link "$work" h2 down
cut=$(date +%s)
wait $one
code=$?
took=$(($(date +%s) - cut))
echo "mpirun ended $took s after the cable was cut"
check "it fails" [ $code != 0 ]
check "within a minute, not $took s" [ $took -le 60 ]
check "it names the host" grep -q "Remote daemon: .* on node h2" "$work/err"
check "no half SAE" [ ! -e "$work/one/sae_models/long/sae.safetensors" ]
"$hosts" link "$work" h2 up
timeout 60 "$hosts" mpi "$work" h1:1,h2:1 "$MICROW" $long --set store="$work/one" >"$work/out" 2>"$work/err" ||
    { fail "after the cut"; cat "$work/err" >&2; }
check "it goes on from a checkpoint" grep -q "resuming training at step" "$work/err"
check "to the same weights" cmp "$work/alone/sae_models/long/sae.safetensors" "$work/one/sae_models/long/sae.safetensors"

part "a lost host that held the lock of a harvest"
harvest="harvest exp.yaml --set name=big --set dataset.limit_documents=0 --set dataset.batch=4"
"$MICROW" $harvest --set store="$work/alone" >/dev/null 2>&1 || fail "the larger harvest"
export OMPI_MCA_oob_tcp_keepalive_time=3 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=2
LAUNCHER="$SOURCE/jobs/mpirun.sh" timeout -k 5 100 $three "$MICROW" $harvest --set store="$work/one" >"$work/out" 2>"$work/err" &
one=$!
lock="$work/one/activations/big/activations.h5.lock"
wait_for 40 grep "blocks_done\": [1-9]" "$work/one/activations/big/progress.json"
"$hosts" crash "$work" h1
wait $one && fail "a harvest whose first host was lost ends well"
check "names the lost host" grep -q "Remote daemon: .* on node h1" "$work/err"
check "its lock is left" [ -s "$lock" ]
two="$hosts mpi $work h2:1,h3:1 $MICROW $harvest --set store=$work/one"
refuses 1 "is being written by process [0-9]* on h1, since .*, last sign of it" $two
touch -d '-3 minutes' "$lock"
timeout 60 $two >"$work/out" 2>"$work/err" || { fail "after the loss"; cat "$work/err" >&2; }
check "takes the lock over" grep -q "taking over the lock of process [0-9]* on h1: its host has given no sign of it for two minutes" "$work/err"
check "goes on" grep -q "resuming .* at block" "$work/err"
check "to the same bytes" cmp "$work/alone/activations/big/activations.h5" "$work/one/activations/big/activations.h5"
check "no lock is left" [ -z "$(find "$work/one" -name '*.lock*' -o -name '*.partial*')" ]
finish
