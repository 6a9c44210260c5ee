# Counts the instructions of three fixed workloads (workloads.c) by callgrind and compares them with counts.txt: at most
# 5 % more or fewer. Unlike times they do not depend on other load of the machine. They depend on the compiler and the
# libraries: for those that counts.txt does not list the test is skipped, and prints the lines to add.
#     WORKLOADS=build/tests/workloads COUNTS=tests/perf/counts.txt COMPILER=gcc-12.2.0 sh tests/perf/guard.sh
set -u
command -v valgrind >/dev/null || { echo "no valgrind"; exit 77; }
work=$(mktemp -d /tmp/microw-perf-XXXXXX)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
library=$(ldd "$WORKLOADS" | sed -n 's,.*/lib\(dnnl\|openblas\)\.so\.\([0-9.]*\).*,\1-\2,p' | sort | tr '\n' '+' | sed 's/+$//')
made="$COMPILER $library"
failed=0
known=0
valgrind --tool=callgrind --callgrind-out-file="$work/out" --toggle-collect=measured --zero-before=measured \
    --dump-after=measured "$WORKLOADS" >"$work/names" 2>"$work/err" ||
    { echo "FAIL the workloads do not run"; cat "$work/err"; exit 1; }
place=0
while read -r name; do
    place=$((place + 1))
    count=$(sed -n 's/^totals: \([0-9]*\)$/\1/p' "$work/out.$place")
    expected=$(sed -n "s/^$made $name \([0-9]*\)$/\1/p" "$COUNTS")
    echo "$made $name $count"
    [ -n "$expected" ] || continue
    known=$((known + 1))
    awk "BEGIN { r = $count / $expected; printf \"%.2f %% of the expected count\n\", 100 * r; exit !(r > 0.95 && r < 1.05) }" ||
        { echo "FAIL $name: $expected expected; if the change is intended, put the line above into $COUNTS"; failed=1; }
done <"$work/names"
[ $failed = 0 ] || exit 1
[ $known = 3 ] || { echo "no counts for $made"; exit 77; }
