# Every symbol of the libraries is declared in a public header, and begins with mw_; every declared function is there.
set -u
echo '#include <microw/microw.h>' | "$CC" -E -P -I"$SOURCE/include" - | sed 's/typedef [^;{]*;//' | grep -oE '\bmw_[a-z0-9_]+\(' | tr -d '(' |
    sort -u >"$WORK/declared.txt"
failed=0
look() { # look WHAT FILE
    sort -u "$2" >"$2.sorted"
    [ -s "$2.sorted" ] || { echo "$1 has no symbols"; failed=1; }
    grep -v '^mw_' "$2.sorted" && { echo "$1: these do not begin with mw_"; failed=1; }
    comm -23 "$2.sorted" "$WORK/declared.txt" | grep . && { echo "$1: these are in no public header"; failed=1; }
    comm -13 "$2.sorted" "$WORK/declared.txt" | grep . && { echo "$1: these are declared and not there"; failed=1; }
}
nm -D --defined-only "$BUILD/libmicrow.so" | awk 'NF == 3 { print $3 }' >"$WORK/shared.txt"
nm -g --defined-only "$BUILD/libmicrow.a" | awk 'NF == 3 { print $3 }' >"$WORK/static.txt"
look libmicrow.so "$WORK/shared.txt"
look libmicrow.a "$WORK/static.txt"
[ $failed = 0 ] && echo "symbols: $(wc -l <"$WORK/shared.txt") in both, all declared"
