#!/bin/sh
# Compares the outputs of two builds: runs the runs of tests/cli/golden.sh with both, on this machine, and names the outputs that differ.
#     tools/same_outputs.sh OLD_PROGRAM NEW_PROGRAM
# Exit code 1: some differ, or a run of the new program failed. Runs that the old program refuses are not compared. $RANKS and $OMP_NUM_THREADS, 1 if not set, are for the new program; the old one runs
# with 1 rank and 1 thread. $KEEP: a folder for the outputs of both.
[ $# = 2 ] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 2; }
SOURCE=$(cd "$(dirname "$0")/.." && pwd)
MPIRUN=${MPIRUN:-mpirun}
. "$SOURCE/tests/cli/common.sh"
. "$SOURCE/tests/golden/outputs.sh"
needs python3 h5dump
(
    RANKS=1
    export OMP_NUM_THREADS=1
    outputs_of "$1" "$work/old" settings numbers
)
outputs_of "$2" "$work/new" settings numbers
differing=$(diff -rq "$work/old" "$work/new" | grep -v "^Only in $work/new")
echo "$(find "$work/old" -type f | wc -l) outputs of $1, $(find "$work/new" -type f | wc -l) of $2"
[ -z "${KEEP:-}" ] || { mkdir -p "$KEEP" && cp -r "$work/old" "$work/new" "$KEEP"; }
[ -z "$differing" ] || { echo "$differing" | sed "s,$work/,,g"; failed=1; }
[ "$failed" = 0 ] && echo "all are the same"
