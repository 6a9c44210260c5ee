#!/bin/sh
# mpirun for runs that may be asked to end: in its place, with the same arguments,
#     jobs/mpirun.sh -np 8 microw run exp.yaml
# Told to end, mpirun of Open MPI gives its ranks a second and kills them: too little to save a checkpoint. This script passes SIGTERM,
# SIGINT (Ctrl-C), SIGHUP and SIGUSR1 on as SIGUSR1, which mpirun hands to the ranks, and waits: microw saves, and the exit code is
# mpirun's, 75 when what was done is saved. A second SIGINT or SIGTERM ends all at once.
# MPIRUN names another mpirun; in a bundle it is that of the bundle.

# Only for signals that reach mpirun itself: the seconds it waits before its SIGTERM to the ranks, and again before SIGKILL. It also
# waits twice so long when a rank has ended with an exit code other than 0, so that more is not better. Open MPI 4, then 5.
export OMPI_MCA_odls_base_sigkill_timeout="${OMPI_MCA_odls_base_sigkill_timeout:-5}"
export PRTE_MCA_odls_base_sigkill_timeout="${PRTE_MCA_odls_base_sigkill_timeout:-$OMPI_MCA_odls_base_sigkill_timeout}"

own=$(dirname "$0")/../bin/mpirun
[ -n "${MPIRUN:-}" ] || ! [ -x "$own" ] || MPIRUN=$own
child=
first=

now_ms() {
    date +%s%3N
}

ask() {
    [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null
}

end() { # end EXIT-CODE: the first time asks; `timeout` and terminals send one request as two signals, which count as one
    if [ -z "$first" ] || [ $(($(now_ms) - first)) -lt 300 ]; then
        first=${first:-$(now_ms)}
        ask
        [ -n "$child" ] || exit "$1"
        return
    fi
    # the session is mpirun's own, with all ranks of this machine; those of others end with their mpirun
    pkill -KILL -s "$child" 2>/dev/null || kill -KILL "$child" 2>/dev/null
    exit "$1"
}
trap 'end 130' INT
trap 'end 143' TERM
trap ask HUP USR1

# A session of its own: what a terminal sends to all of its foreground programs comes to this script alone. A background program has
# /dev/null as its standard input, unless it is given another.
exec 3<&0
setsid "${MPIRUN:-mpirun}" "$@" <&3 3<&- &
child=$!
code=0
while :; do
    wait "$child" && code=0 || code=$?
    kill -0 "$child" 2>/dev/null || break # a signal to this script ends the wait, not mpirun
done
wait "$child" 2>/dev/null && last=0 || last=$?
[ "$last" = 127 ] || code=$last # 127: the loop has its code
exit "$code"
