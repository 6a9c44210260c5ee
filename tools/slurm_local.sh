#!/bin/bash
# Starts a Slurm on this machine, to try jobs/ and for the tests: several nodes on one host, and two partitions, of
# which `high` pre-empts `low` by requeueing its jobs. Needs root and the packages slurm-wlm and munge.
#     tools/slurm_local.sh start DIR [NODES]     # then: export SLURM_CONF=DIR/slurm.conf; sinfo
#     tools/slurm_local.sh stop DIR
set -eu

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
command=$1
dir=$(mkdir -p "$2" && cd "$2" && pwd)
nodes=${3:-2}

need() {
    for program in munged slurmctld slurmd sinfo; do
        command -v $program >/dev/null || { echo "slurm_local: $program is not installed (packages slurm-wlm, munge)" >&2; exit 77; }
    done
    [ "$(id -u)" = 0 ] || { echo "slurm_local: needs root" >&2; exit 77; }
}

configure() {
    host=$(hostname -s)
    cores=$(nproc --all) # --all: independent of OMP_NUM_THREADS
    [ "$cores" -ge 2 ] || cores=2
    mkdir -p "$dir/state" "$dir/log" "$dir/pmix"
    echo "PMIxCliTmpDirBase=$dir/pmix" >"$dir/mpi.conf"
    cat >"$dir/slurm.conf" <<END
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((16000 + $$ % 900))
AuthType=auth/munge
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdLogFile=$dir/log/slurmd-%n
SlurmdSpoolDir=$dir/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=2,sched_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
InactiveLimit=0
KillWait=10
END
    for i in $(seq "$nodes"); do
        echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((17000 + $$ % 900 + i)) CPUs=$cores" >>"$dir/slurm.conf"
    done
    cat >>"$dir/slurm.conf" <<END
PartitionName=low Nodes=n[1-$nodes] Default=YES MaxTime=60 PriorityTier=1 GraceTime=30 State=UP
PartitionName=high Nodes=n[1-$nodes] MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
END
}

start_munge() {
    pgrep -x munged >/dev/null && return
    install -d -o munge -g munge /run/munge
    su -s /bin/sh munge -c 'munged --force' 2>"$dir/log/munged" || { cat "$dir/log/munged" >&2; exit 77; }
}

# A step's folder for PMIx has the same name on all nodes: each has a file system of its own there.
start_node() {
    if [ "$nodes" = 1 ]; then
        slurmd -N "$1" -f "$dir/slurm.conf"
    else
        unshare --mount sh -c 'mount --make-rprivate / && mount -t tmpfs pmix "$0/pmix" &&
            exec slurmd -N "$1" -f "$0/slurm.conf"' "$dir" "$1"
    fi
}

start() {
    need
    configure
    start_munge
    export SLURM_CONF="$dir/slurm.conf"
    slurmctld -f "$dir/slurm.conf"
    for i in $(seq "$nodes"); do
        mkdir -p "$dir/spool-n$i"
        start_node "n$i"
    done
    for i in $(seq 50); do
        [ "$(sinfo -h -t idle -o %D -p low 2>/dev/null)" = "$nodes" ] && { sinfo; return; }
        sleep 0.2
    done
    echo "slurm_local: the nodes did not start" >&2
    tail -n 5 "$dir"/log/* >&2
    stop
    exit 77
}

stop() {
    for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid"; do
        [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null
    done
    return 0
}

case $command in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac
