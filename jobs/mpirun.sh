#!/bin/sh
# Replaces mpirun for runs that must save when they are interrupted; takes the same arguments:
#     jobs/mpirun.sh -np 8 microw run exp.yaml
# On a signal, mpirun of Open MPI kills its ranks after a second: too soon to save a checkpoint. This script passes
# SIGTERM, SIGINT (Ctrl-C), SIGHUP and SIGUSR1 on as SIGUSR1, which mpirun forwards to the ranks, and waits: microw
# saves, and the exit code is mpirun's, 75 if progress is saved. A second SIGINT or SIGTERM kills all at once. MPIRUN
# names another mpirun; in a bundle the default is that of the bundle.

# For signals that reach mpirun itself: the seconds it waits before its SIGTERM to the ranks, and again before SIGKILL.
# It also waits twice as long after a rank has ended with an exit code other than 0, so a larger value is not better.
# Open MPI 4, then 5.
export OMPI_MCA_odls_base_sigkill_timeout="${OMPI_MCA_odls_base_sigkill_timeout:-5}"
export PRTE_MCA_odls_base_sigkill_timeout="${PRTE_MCA_odls_base_sigkill_timeout:-$OMPI_MCA_odls_base_sigkill_timeout}"

# A host that is lost, or whose cable is cut, says nothing: mpirun notices after `time` seconds of silence and `probes`
# questions, `intvl` seconds apart, without a reply: 25 s instead of 8 minutes. Open MPI 4, 5, and its successor.
for setting in time=10 intvl=5 probes=3; do
    name=${setting%=*}
    eval "value=\${OMPI_MCA_oob_tcp_keepalive_$name:-${setting#*=}}"
    export "OMPI_MCA_oob_tcp_keepalive_$name=$value"
    eval "export PRTE_MCA_oob_tcp_keepalive_$name=\${PRTE_MCA_oob_tcp_keepalive_$name:-$value}"
    eval "export PRTE_MCA_prte_keepalive_$name=\${PRTE_MCA_prte_keepalive_$name:-$value}"
done

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

end() { # end EXIT-CODE: the first request asks to save; two signals within 300 ms are one (`timeout`, terminals)
    if [ -z "$first" ] || [ $(($(now_ms) - first)) -lt 300 ]; then
        first=${first:-$(now_ms)}
        ask
        [ -n "$child" ] || exit "$1"
        return
    fi
    # the session contains mpirun and all ranks of this machine; ranks on others end with their mpirun
    pkill -KILL -s "$child" 2>/dev/null || kill -KILL "$child" 2>/dev/null
    exit "$1"
}
trap 'end 130' INT
trap 'end 143' TERM
trap ask HUP USR1

# Starts mpirun in a new session, so that signals of a terminal to its foreground programs reach only this script. A
# background program has /dev/null as its standard input, unless it is given another.
exec 3<&0
setsid "${MPIRUN:-mpirun}" "$@" <&3 3<&- &
child=$!
code=0
while :; do
    wait "$child" && code=0 || code=$?
    kill -0 "$child" 2>/dev/null || break # a signal to this script ends the wait, but not mpirun
done
wait "$child" 2>/dev/null && last=0 || last=$?
[ "$last" = 127 ] || code=$last # 127: the loop already has the code
exit "$code"
