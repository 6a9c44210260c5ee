#!/bin/sh
# Runs the tests of this bundle, without CMake or CTest:
#     test/run_tests.sh [--only REGEX] [--list] [--out DIR] [--seconds N] [--none-skipped]
# --only      runs tests whose name matches an extended regular expression: '^(unit|mpi)\.'
# --list      only prints their names
# --out       folder for each test's output, NAME.log, and results.txt with one line per test (./test-results)
# --seconds   begins no test after N seconds
# --none-skipped   a skipped test counts as failed: with a GPU, none may be skipped
# Exit code 1 if a test failed. A second call with the same --out does not repeat tests that passed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=${here%/test}
only=. list= out=test-results seconds= strict=
while [ $# -gt 0 ]; do
    case $1 in
    --only) only=${2:?--only: expected a regular expression} && shift ;;
    --out) out=${2:?--out: expected a folder} && shift ;;
    --seconds) seconds=${2:?--seconds: expected a number} && shift ;;
    --list) list=1 ;;
    --none-skipped) strict=1 ;;
    *) echo "run_tests: unknown argument '$1'; the head of $0 lists the arguments" >&2 && exit 2 ;;
    esac
    shift
done
echo | grep -Eq -- "$only"
[ $? -le 1 ] || { echo "run_tests: --only: '$only' is not an extended regular expression" >&2 && exit 2; }
case $seconds in *[!0-9]*) echo "run_tests: --seconds: expected a number, found '$seconds'" >&2 && exit 2 ;; esac
case $root in
*[!A-Za-z0-9._/+-]*) # shell tests use paths without quotes: a link avoids such letters
    link=$(mktemp -d) && ln -s "$root" "$link/bundle" && root=$link/bundle && here=$root/test || exit 1
    trap 'rm -rf "$link"' EXIT
    ;;
esac
export PATH="$root/bin:$PATH"
began=$(date +%s) passed=0 failed=0 skipped=0 left=0
if [ -z "$list" ]; then
    mkdir -p "$out" || exit 1
    out=$(cd "$out" && pwd)
    touch "$out/results.txt" || exit 1
    cd "$here" || exit 1
fi

note() { # note NAME WORD SECONDS
    echo "$2 $1 ($3 s)" | tee -a "$out/results.txt"
}

run_test() { # run_test NAME SECONDS COMMAND...
    name=$1 limit=$2
    shift 2
    echo "$name" | grep -Eq -- "$only" || return 0
    [ -z "$list" ] || { echo "$name" && return 0; }
    if grep -q "^passed $name " "$out/results.txt"; then
        passed=$((passed + 1))
        return 0
    fi
    start=$(date +%s)
    if [ -n "$seconds" ] && [ $((start - began)) -ge "$seconds" ]; then
        left=$((left + 1))
        return 0
    fi
    timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null
    code=$?
    took=$(($(date +%s) - start))
    case $code in
    0) note "$name" passed $took && passed=$((passed + 1)) ;;
    77)
        note "$name" skipped $took && skipped=$((skipped + 1))
        tail -n 1 "$out/$name.log"
        ;;
    *)
        [ $code != 124 ] || echo "ended after $limit s" >>"$out/$name.log"
        note "$name" FAILED $took && failed=$((failed + 1))
        tail -n 15 "$out/$name.log"
        ;;
    esac
}

. "$here/list.sh"
if [ -z "$list" ] && [ $((passed + failed + skipped + left)) = 0 ]; then
    echo "run_tests: no test is called '$only'; --list names them" >&2
    exit 2
fi
[ -n "$list" ] || echo "$passed passed, $failed failed, $skipped skipped$([ $left = 0 ] || echo ", $left not begun")"
[ $failed = 0 ] && [ $left = 0 ] && { [ -z "$strict" ] || [ $skipped = 0 ]; }
