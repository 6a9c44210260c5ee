# Failures on clusters: damaged files, full and read-only disks, values that are not finite, clocks that jump. Each ends
# with one message and no hang, no finished work is lost, and a restart gives the same bytes.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
h5=activations/small/activations.h5
sae=sae_models/small/sae.safetensors
whole="$work/whole"
"$MICROW" run "$work/exp.yaml" --set store="$whole" >/dev/null 2>&1 || fail "the whole run"
train() { # train RANKS ARGUMENTS...
    ranks=$1
    shift
    mpi "$ranks" "$MICROW" train "$work/exp.yaml" "$@"
}
copy() { # copy NAME: makes a store with the harvest only
    mkdir -p "$work/$1/activations/small"
    cp "$whole/$h5" "$work/$1/$h5"
}
refuses_train() { # refuses_train RANKS TEXT ARGUMENTS...: also on several ranks, with one message
    checks=$((checks + 1))
    ranks=$1
    text=$2
    shift 2
    train "$ranks" "$@" >"$work/out" 2>"$work/err" && fail "$ranks ranks went on: $*"
    grep -q -- "$text" "$work/err" || { fail "no '$text' at $ranks ranks"; cat "$work/err" >&2; }
    [ "$(grep -c 'microw: error' "$work/err")" = 1 ] || { fail "not one message at $ranks ranks"; cat "$work/err" >&2; }
}

# one bit of the activations flipped, or the file truncated: found before training, on any number of ranks; harvested
# again
for damage in turned cut; do
    copy $damage
    file="$work/$damage/$h5"
    size=$(stat -c %s "$file")
    if [ $damage = turned ]; then
        at=$((size * 2 / 3))
        byte=$(od -An -tu1 -j $at -N 1 "$file" | tr -d ' ')
        printf "$(printf '\\%03o' $((byte ^ 4)))" | dd of="$file" bs=1 seek=$at conv=notrunc 2>/dev/null
        text="the checksum does not match"
    else
        truncate -s $((size - 300000)) "$file"
        text="$file"
    fi
    for ranks in 1 2 3; do refuses_train $ranks "$text" --set store="$work/$damage" --set sae.site=1.resid_post --set sae.sites=[] --set sae.target=2.mlp_out; done
    if [ $damage = turned ]; then
        check "unless told not to look" train 1 --set store="$work/turned" --set train.verify=false
        rm -r "$work/turned/sae_models"
    fi
    check "harvested again" mpi 2 "$MICROW" harvest "$work/exp.yaml" --set store="$work/$damage" --overwrite
    check "the same bytes after '$damage'" cmp "$whole/$h5" "$file"
    check "trained" train 2 --set store="$work/$damage"
    check "the same weights after '$damage'" cmp "$whole/$sae" "$work/$damage/$sae"
done

# the disk is full when a checkpoint is written; training resumes after space is freed
mkdir "$work/disk"
if mount -t tmpfs -o size=20m tmpfs "$work/disk" 2>/dev/null; then
    mkdir -p "$work/disk/activations/small"
    cp "$whole/$h5" "$work/disk/$h5"
    dd if=/dev/zero of="$work/disk/filler" bs=1M 2>/dev/null
    for ranks in 1 3; do refuses_train $ranks "are free\|o space left" --set store="$work/disk"; done
    rm "$work/disk/filler"
    (
        while ! ls "$work"/disk/sae_models/small/checkpoint-*.safetensors >/dev/null 2>&1; do sleep 0.01; done
        dd if=/dev/zero of="$work/disk/filler" bs=64k 2>/dev/null
    ) &
    filler=$!
    refuses_train 2 "o space left" --set store="$work/disk" --set train.tokens=400_000 --set train.keep_checkpoints=9
    kill $filler 2>/dev/null
    wait $filler 2>/dev/null
    check "no weights yet" test ! -e "$work/disk/$sae"
    rm -f "$work/disk/filler"
    check "goes on with room" train 3 --set store="$work/disk" --set train.tokens=400_000 --set train.keep_checkpoints=9
    copy more
    check "the same, undisturbed" train 1 --set store="$work/more" --set train.tokens=400_000 --set train.keep_checkpoints=9
    check "the same weights after a full disk" cmp "$work/more/$sae" "$work/disk/$sae"
    check "nothing is left over" sh -c "! ls $work/disk/sae_models/small | grep -q tmp"

    # a store that is not writable: reported at once; its contents can still be inspected
    mount -o remount,ro "$work/disk"
    refuses 1 "ead-only file system" "$MICROW" train "$work/exp.yaml" --set store="$work/disk" --set name=other --set sae.activations=small
    mpi 3 "$MICROW" harvest "$work/exp.yaml" --set store="$work/disk" --set name=other >"$work/out" 2>"$work/err" && fail "3 ranks wrote to a read-only store"
    check "one message" test "$(grep -c 'microw: error' "$work/err")" = 1
    check "inspect reads it" "$MICROW" inspect "$work/disk/$h5"
    umount "$work/disk"
else
    echo "no file system may be mounted here: full and read-only disks are not tried"
fi

# quotas: compared with the estimate before anything is written
refuses 1 "need .* GB, but quota_gb leaves" "$MICROW" harvest "$work/exp.yaml" --set store="$work/quota" --set quota_gb=0.001
check "nothing was written" test ! -e "$work/quota/activations/small/activations.h5.partial"
copy quota
refuses 1 "quota_gb" "$MICROW" train "$work/exp.yaml" --set store="$work/quota" --set quota_gb=0.0105
check "enough of it" train 1 --set store="$work/quota" --set quota_gb=1

# values that are not finite: the hook makes some rows too large for f16
harvest_big() { mpi "$1" "$MICROW" harvest "$work/exp.yaml" --set store="$work/$2" --set harvest.dtype=f16 --set "hooks.list=[{site: 1.resid_post, kind: scale, factor: 24000}]" $3; }
for ranks in 1 3; do
    harvest_big $ranks nan "" >"$work/out" 2>"$work/err" && fail "harvested what is not finite"
    check "its place is named" grep -q "site 1.resid_post is not finite in f16 at token [0-9]*, position [0-9]* of sequence [0-9]*" "$work/err"
done
harvest_big 1 nan "--set harvest.nan=keep" >/dev/null 2>"$work/err" || { fail "harvest.nan: keep"; cat "$work/err" >&2; }
harvest_big 3 nan3 "--set harvest.nan=keep" >/dev/null 2>&1
check "the same with nan: keep at 3 ranks" cmp "$work/nan/$h5" "$work/nan3/$h5"
for ranks in 1 2; do refuses_train $ranks "row [0-9]*, column [0-9]* of site 1.resid_post is" --set store="$work/nan"; done
for ranks in 1 2 3; do
    rm -rf "$work/nan/sae_models"
    train $ranks --set store="$work/nan" --set train.nan=skip >/dev/null 2>"$work/err$ranks" || { fail "train.nan: skip at $ranks"; cat "$work/err$ranks" >&2; }
    check "says how many" grep -q "activations: [0-9]* rows were not finite" "$work/err$ranks"
    [ $ranks = 1 ] && cp "$work/nan/$sae" "$work/skipped"
    check "the same at $ranks ranks" cmp "$work/skipped" "$work/nan/$sae"
done
check "as many at any number of ranks" sh -c "grep -h 'not finite' $work/err1 >$work/n1; grep -h 'not finite' $work/err3 | cmp - $work/n1"

# the time of day jumps
if [ -n "${CLOCK_JUMPS:-}" ]; then
    LD_PRELOAD="$CLOCK_JUMPS" "$MICROW" run "$work/exp.yaml" --set store="$work/clock" --set train.checkpoint_minutes=0.0001 >"$work/out" 2>&1 || fail "a run with a jumping clock"
    for f in $h5 $sae sae_models/small/concepts.json runs/small/evaluate.json; do check "$f with a jumping clock" cmp "$whole/$f" "$work/clock/$f"; done
fi

# several harvests as one; the result depends on their order, not on the number of ranks
half() { sed "s/limit_documents: 400/limit_documents: $1/" "$work/exp.yaml"; }
half 150 >"$work/a.yaml"
half 250 >"$work/b.yaml"
many="$work/many"
check "one part" "$MICROW" harvest "$work/a.yaml" --set store="$many" --set name=a
check "another" "$MICROW" harvest "$work/b.yaml" --set store="$many" --set name=b
for ranks in 1 3; do
    mpi $ranks "$MICROW" train "$work/exp.yaml" --set store="$many" --set name=both$ranks --set sae.activations="[a, b]" >/dev/null 2>&1 || fail "two harvests at $ranks ranks"
    mpi $ranks "$MICROW" discover "$work/exp.yaml" --set store="$many" --set name=both$ranks --set sae.activations="[a, $many/activations/b]" >"$work/out" 2>&1 || fail "discover over two"
done
check "the same weights" cmp "$many/sae_models/both1/sae.safetensors" "$many/sae_models/both3/sae.safetensors"
check "the same concepts" cmp "$many/sae_models/both1/concepts.json" "$many/sae_models/both3/concepts.json"
rows() { "$MICROW" inspect "$1" | sed -n 's/^\([0-9]*\) rows.*/\1/p'; }
check "all rows" grep -q "on $(($(rows "$many/activations/a/activations.h5") + $(rows "$many/activations/b/activations.h5"))) tokens" "$work/out"
"$MICROW" train "$work/exp.yaml" --set store="$many" --set name=turn --set sae.activations="[b, a]" >/dev/null 2>&1
check "another order is other data" sh -c "! cmp -s $many/sae_models/turn/sae.safetensors $many/sae_models/both1/sae.safetensors"
cp -r "$SOURCE/configs/demo/model" "$work/model"
chmod -R u+w "$work/model"
printf '\001' | dd of="$work/model/model.safetensors" bs=1 seek=100000 conv=notrunc 2>/dev/null
check "a harvest of other weights" "$MICROW" harvest "$work/a.yaml" --set store="$many" --set name=c --set model.path="$work/model"
refuses 2 "are of different models" "$MICROW" train "$work/exp.yaml" --set store="$many" --set sae.activations="[a, c]"
refuses 1 "none/activations.h5 does not exist" "$MICROW" train "$work/exp.yaml" --set store="$many" --set sae.activations="[a, none]"

# order by blocks: the same at any number of ranks, and after a kill
blocks="--set train.shuffle=blocks --set train.shuffle_block=8 --set train.shuffle_window=4 --set train.batch=500"
for ranks in 1 2 3; do
    copy blocks$ranks
    check "by blocks at $ranks" train $ranks --set store="$work/blocks$ranks" $blocks
    check "the same weights at $ranks" cmp "$work/blocks1/$sae" "$work/blocks$ranks/$sae"
done
check "another order than by rows" sh -c "! cmp -s $whole/$sae $work/blocks1/$sae"
finish
