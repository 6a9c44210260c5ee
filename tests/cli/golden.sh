# Outputs are byte-equal to recorded ones: SHA-256 sums of the outputs of small runs against tests/golden/sums.txt. Settings,
# fingerprints and tokens are always compared. Numbers depend on the CPU's instructions and on compiler and libraries: they are
# compared where sums.txt has a heading for the present ones.
#     MICROW=build/microw SOURCE=. MPIRUN=mpirun sh tests/cli/golden.sh [--write]
# --write: records the present sums, for a change that is meant to change outputs, or under a new heading.
. "$SOURCE/tests/cli/common.sh"
needs python3 h5dump sha256sum
. "$SOURCE/tests/golden/outputs.sh"
sums="$SOURCE/tests/golden/sums.txt"

# The program, the libraries and the CPU whose numbers these are.
numbers_of() {
    "$MICROW" doctor >"$work/doctor" 2>/dev/null
    made=$(grep -oE '(gcc|clang) [0-9.]+, [A-Za-z]+|(oneDNN|OpenBLAS|HDF5|glibc) [0-9.]*[0-9]' "$work/doctor" |
        sed 's/,//' | paste -sd , | sed 's/,/, /g')
    awk -F ': *' -v made="$made" '
        /^vendor_id/ { vendor = $2 }
        /^cpu family/ { family = $2 }
        /^model[ \t]*:/ { model = $2 }
        /^flags/ {
            n = split($2, have, " ")
            for (i = 1; i <= n; i++) if (have[i] ~ /^(avx2|avx512f|avx512_bf16|amx_bf16)$/) isa = isa " " have[i]
        }
        /^$/ { exit }
        END { print "numbers: " made ", " vendor " " family "/" model isa }' /proc/cpuinfo
}

under() { # under HEADING: its lines in sums.txt
    awk -v heading="# $1" '/^#/ { here = $0 == heading; next } here' "$sums"
}

heading=$(numbers_of)
parts="settings numbers"
grep -qFx "# $heading" "$sums" || [ "${1:-}" = --write ] || parts=settings
outputs_of "$MICROW" "$work/outputs" $parts
for part in $parts; do
    (cd "$work/outputs" && find "$part" -type f | LC_ALL=C sort | xargs sha256sum) >"$work/$part"
done
if [ "${1:-}" = --write ]; then
    [ "$failed" = 0 ] || exit 1
    awk -v heading="# $heading" '/^#/ { kept = /^# numbers/ && $0 != heading } kept' "$sums" >"$work/others"
    { echo "# settings"; cat "$work/settings"; echo "# $heading"; cat "$work/numbers" "$work/others"; } >"$work/sums"
    cp "$work/sums" "$sums"
    exit
fi
for part in $parts; do
    [ $part = settings ] && under settings >"$work/expected" || under "$heading" >"$work/expected"
    checks=$((checks + $(wc -l <"$work/expected")))
    diff "$work/expected" "$work/$part" | awk '/^[<>]/ { print $3 }' | sort -u >"$work/differ"
    while read -r name; do fail "$name is not what it was"; done <"$work/differ"
done
[ "$parts" = settings ] && echo "numbers were not compared: tests/golden/sums.txt has none of \"$heading\""
finish
