# Limited memory: at any limit a command succeeds, or ends with exit code 1 and the reason; never by a signal, never
# hanging.
. "$SOURCE/tests/cli/common.sh"
[ -z "${MICROW_QUICK:-}" ] || exit 77 # a sanitizer needs more address space than any limit
(ulimit -v 4000000) 2>/dev/null || exit 77
small | sed "s/tokens: 40_000/tokens: 10_000/" >"$work/exp.yaml"
export OMP_NUM_THREADS=2
"$MICROW" run "$work/exp.yaml" >/dev/null 2>&1 || fail "run"
done=0 refused=0

# within KB COMMAND...
within() {
    checks=$((checks + 1))
    limit=$1
    shift
    (
        ulimit -c 0
        ulimit -v "$limit"
        exec timeout -k 1 20 "$@"
    ) >"$work/out" 2>"$work/err"
    got=$?
    case $got in
        0) done=$((done + 1)) ;;
        1) refused=$((refused + 1)) ;;
        *) fail "exit code $got with $limit kB: $*" && sed 's/^/    /' "$work/err" >&2 ;;
    esac
    [ $got != 1 ] || grep -q 'error\|failed' "$work/err" || fail "nothing said with $limit kB: $*"
}

for limit in 200000 420000 480000 560000 2000000; do
    within $limit "$MICROW" generate --model "$SOURCE/configs/demo/model" --prompt "one morning" --max-new-tokens 4
    rm -rf "$work/store/sae_models"
    within $limit "$MICROW" train "$work/exp.yaml"
    within $limit "$MICROW" harvest "$work/exp.yaml" --set store="$work/other"
    rm -rf "$work/other"
done
check "enough is enough" [ $done -ge 3 ]
check "too little is said" [ $refused -ge 4 ]
finish
