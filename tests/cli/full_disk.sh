# A disk that becomes full at any moment of any stage: one message with the reason, no crash, no incomplete file under a
# final name, no temporary file left, and the bytes of an undisturbed run once there is space.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
echo "report: {}" >>"$work/exp.yaml"
whole="$work/whole"
disk="$work/disk"
mkdir "$disk"
mount -t tmpfs -o size=24m tmpfs "$disk" 2>/dev/null || { echo "no file system may be mounted here" && exit 77; }
trap 'umount "$disk" 2>/dev/null; rm -rf "$work"' EXIT
mpi 1 "$MICROW" run "$work/exp.yaml" --set store="$whole" >/dev/null 2>&1 || fail "the whole run"

fill() { # fill KILOBYTES: leaves so much space
    rm -f "$disk/filler"
    left=$(($(df -k --output=avail "$disk" | tail -1) - $1))
    [ $left -le 0 ] || dd if=/dev/zero of="$disk/filler" bs=1k count=$left 2>/dev/null
}
put() { # put FILE...: copies these files of the complete store, and no others
    rm -rf "$disk"/*
    for file in "$@"; do
        mkdir -p "$disk/$(dirname "$file")"
        cp "$whole/$file" "$disk/$file"
    done
}
told_once() { # told_once WHAT
    checks=$((checks + 1))
    [ $code -lt 128 ] || fail "$1 ended by signal $((code - 128))"
    [ "$(grep -c 'microw: error' "$work/err")" = 1 ] || { fail "not one message of $1"; cat "$work/err" >&2; }
    grep -q 'microw: error.*\(o space left\|are free\)' "$work/err" || { fail "no reason from $1"; cat "$work/err" >&2; }
    ! grep -q 'HDF5-DIAG\|were not freed\|Segmentation\|signal' "$work/err" || { fail "$1 said more"; cat "$work/err" >&2; }
    [ -z "$(find "$disk" -name '*.partial*' -o -name '*.tmp*')" ] || fail "$1 left $(find "$disk" -name '*.partial*' -o -name '*.tmp*')"
}
attempt() { # attempt RANKS STAGE KILOBYTES
    fill "$3"
    if [ "$1" = 1 ]; then
        timeout 60 "$MICROW" "$2" "$work/exp.yaml" --set store="$disk" >"$work/out" 2>"$work/err" </dev/null
    else
        mpi "$1" "$MICROW" "$2" "$work/exp.yaml" --set store="$disk" >"$work/out" 2>"$work/err" </dev/null
    fi
    code=$?
}

h5=activations/small/activations.h5
sae="sae_models/small/sae.safetensors sae_models/small/cfg.json"
found="sae_models/small/discovery.h5 sae_models/small/names.csv"
# stage, the files that it reads, and one that it writes
tries() {
    echo "discover:$h5 $sae:sae_models/small/discovery.h5"
    echo "evaluate:$h5 $sae:runs/small/evaluate.json"
    echo "steer:$h5 $sae $found:runs/small/steer.json"
    echo "report:$sae $found:runs/small/report.html"
}
tries >"$work/tries"
while IFS=: read -r stage inputs made; do
    failures=0
    size=$(($(stat -c %s "$whole/$made") / 1024))
    levels="0 4 $((size + 4))"
    [ $size -lt 100 ] || levels="$levels $((size / 2)) $((size - 30)) $((size - 8)) $size"
    for kilobytes in $levels; do
        put $inputs
        before=$(cat "$disk/$made" 2>/dev/null | cksum)
        attempt 1 "$stage" $kilobytes
        [ $code = 0 ] && continue
        failures=$((failures + 1))
        told_once "$stage with $kilobytes kB"
        [ "$(cat "$disk/$made" 2>/dev/null | cksum)" = "$before" ] || cmp -s "$disk/$made" "$whole/$made" || fail "$stage with $kilobytes kB: $made is neither old nor new"
    done
    [ $failures -ge 2 ] || fail "$stage was short of room $failures times"
    if [ "$stage" = discover ]; then
        for kilobytes in 0 200; do
            put $inputs
            attempt 2 "$stage" $kilobytes
            [ $code = 0 ] || told_once "$stage with $kilobytes kB at 2 ranks"
        done
    fi
    attempt 1 "$stage" 8000
    [ $code = 0 ] || { fail "$stage with room"; cat "$work/err" >&2; }
    [ "$stage" = report ] || check "$stage: the same bytes" cmp "$whole/$made" "$disk/$made"
done <"$work/tries"

# a harvest that runs out of space while it writes, and resumes with more
sed 's/, limit_documents: 400/, limit_documents: 800/' "$work/exp.yaml" >"$work/long.yaml"
mpi 1 "$MICROW" harvest "$work/long.yaml" --set store="$work/long" >/dev/null 2>&1 || fail "the long harvest"
for ranks in 1 2; do
    put
    (
        while [ ! -e "$disk/$h5.partial" ]; do sleep 0.005; done
        dd if=/dev/zero of="$disk/filler" bs=64k 2>/dev/null
    ) &
    filler=$!
    mpi $ranks "$MICROW" harvest "$work/long.yaml" --set store="$disk" >"$work/out" 2>"$work/err"
    code=$?
    kill $filler 2>/dev/null
    wait $filler 2>/dev/null
    rm -f "$disk/filler"
    if [ $code != 0 ]; then
        checks=$((checks + 1))
        [ "$(grep -c 'microw: error' "$work/err")" = 1 ] || { fail "not one message of a harvest at $ranks ranks"; cat "$work/err" >&2; }
        ! grep -q 'HDF5-DIAG\|Segmentation\|signal 11' "$work/err" || { fail "a harvest at $ranks ranks said more"; cat "$work/err" >&2; }
        check "no file has its name before it is whole" test ! -e "$disk/$h5"
    fi
    check "a harvest at $ranks ranks goes on with room" mpi $ranks "$MICROW" harvest "$work/long.yaml" --set store="$disk"
    check "the same activations at $ranks ranks" cmp "$work/long/$h5" "$disk/$h5"
done
finish
