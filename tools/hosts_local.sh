#!/bin/bash
# Makes several hosts of this machine, to try MPI between them and for the tests: each has a network, mounts, /tmp,
# /dev/shm, a name and processes of its own, and a cable to a switch. `head`, where mpirun runs, is the switch. There is
# no ssh. All hosts see the machine's files; of /tmp, DIR and FOLDERs. Needs root, iproute2 and util-linux; exit code 77
# if these are missing or namespaces are refused, as in most containers.
#     tools/hosts_local.sh up DIR N [FOLDER...]         # makes h1 to hN
#     tools/hosts_local.sh mpi DIR HOSTS COMMAND...     # mpirun; HOSTS: h1:1,h2:2. LAUNCHER replaces mpirun
#     tools/hosts_local.sh on DIR HOST COMMAND...
#     tools/hosts_local.sh link DIR HOST up|down        # the host's cable
#     tools/hosts_local.sh crash DIR HOST               # the host's end, as by a loss of power
#     tools/hosts_local.sh hide DIR HOST FOLDER         # an empty folder in place of FOLDER, on one host
#     tools/hosts_local.sh readonly DIR HOST FOLDER
#     tools/hosts_local.sh down DIR                     # ends all hosts
set -eu

usage() { sed -n '6,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
stop_with() { echo "hosts_local: $2" >&2; exit "$1"; }
[ $# -ge 2 ] || usage
self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
command=$1
[ "$command" != up ] || mkdir -p "$2"
dir=$(cd "$2" 2>/dev/null && pwd) || stop_with 1 "there is no folder $2"
run=$dir/hosts # for each host a file: the number of its first process, and when that started
shift 2
subnet=10.99.0
spaces="--mount --uts --ipc --net"

need() {
    [ "$(id -u)" = 0 ] || stop_with 77 "needs root"
    for program in ip unshare nsenter mount hostname; do
        command -v $program >/dev/null || stop_with 77 "$program is not installed (packages iproute2, util-linux, hostname)"
    done
    why=$(unshare $spaces --pid --fork sh -c 'mount --make-rprivate / && mount -t tmpfs none /tmp && hostname h &&
        ip link add name s0 type bridge && ip link add name v0 type veth peer name v1' 2>&1) ||
        stop_with 77 "namespaces are refused here: $(echo "$why" | tail -n 1)"
}

first_of() { # the first process of a host; the number could be another process's by now
    local pid started
    read -r pid started 2>/dev/null <"$run/$1" && [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" = "$started" ] ||
        stop_with 1 "there is no host $1"
    echo "$pid"
}

enter() { # enter HOST COMMAND...: in this folder if the host has it
    local pid own=--pid
    pid=$(first_of "$1")
    [ "$1" != head ] || own= # mpirun has to enter the others
    shift
    exec nsenter -t "$pid" $spaces $own sh -c 'cd "$0" 2>/dev/null; exec "$@"' "$PWD" "$@"
}

# The first process of a host, in its new namespaces.
first() {
    local name=$1 fd stat
    shift
    read -ra stat </proc/self/stat # while /proc is still the machine's
    mount --make-rprivate /
    mount --bind "$run/names" /etc/hosts
    local open=()
    for folder in "$dir" "$@"; do
        case $folder in /tmp/*) exec {fd}<"$folder"; open+=("$fd $folder") ;; esac
    done
    mount -t tmpfs -o mode=1777 tmp /tmp
    for folder in "${open[@]}"; do
        mkdir -p "${folder#* }"
        mount --no-canonicalize --bind "/proc/self/fd/${folder%% *}" "${folder#* }"
        fd=${folder%% *}
        exec {fd}<&-
    done
    mount -t tmpfs -o mode=1777 shm /dev/shm
    hostname "$name"
    ip link set lo up
    echo "${stat[0]} ${stat[21]}" >"$run/$name.new"
    mv "$run/$name.new" "$run/$name"
    [ "$name" != head ] || exec sleep infinity
    mount -t proc proc /proc
    trap '' INT TERM HUP
    sleep infinity &
    wait # and so buries orphans
}

begin() { # begin HOST FOLDER...
    local own="--pid --fork"
    [ "$1" != head ] || own=
    setsid unshare $spaces $own bash "$self" first "$dir" "$@" </dev/null >/dev/null 2>"$run/$1.log" &
    for _ in $(seq 500); do
        [ ! -e "$run/$1" ] || return 0
        sleep 0.02
    done
    cat "$run/$1.log" >&2
    down
    stop_with 1 "$1 did not start"
}

at_switch() { nsenter -t "$(first_of head)" --net ip "$@"; }

up() {
    local n=$1 i
    shift
    need
    [ ! -e "$run" ] || stop_with 1 "$dir has hosts already"
    mkdir "$run"
    { echo "127.0.0.1 localhost"; for i in $(seq "$n"); do echo "$subnet.$i h$i"; done; echo "$subnet.254 head"; } >"$run/names"
    begin head "$@"
    at_switch link add name switch type bridge
    at_switch addr add $subnet.254/24 dev switch
    at_switch link set switch up
    for i in $(seq "$n"); do
        begin "h$i" "$@"
        at_switch link add name "h$i" type veth peer name eth0 netns "$(first_of "h$i")"
        at_switch link set "h$i" master switch up
        nsenter -t "$(first_of "h$i")" --net sh -c "ip addr add $subnet.$i/24 dev eth0 && ip link set eth0 up"
    done
}

mpi() { # mpi HOSTS COMMAND...
    local hosts=$1 ranks=0 item
    shift
    for item in ${hosts//,/ }; do ranks=$((ranks + ${item#*:})); done
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent="$self agent $dir" OMPI_MCA_plm_rsh_no_tree_spawn=1
    export OMPI_MCA_oob_tcp_if_include=$subnet.0/24 OMPI_MCA_btl_tcp_if_include=$subnet.0/24
    export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_vader_single_copy_mechanism=none
    export OMPI_MCA_mpi_yield_when_idle=1 # all hosts have the same processors
    enter head "${LAUNCHER:-mpirun}" -np "$ranks" --host "$hosts" --map-by slot --bind-to none --oversubscribe "$@"
}

down() { # whatever is in one of the networks
    local networks= name p
    for name in "$run"/h*; do
        p=$(first_of "$(basename "$name")" 2>/dev/null) && networks+=" $(readlink "/proc/$p/ns/net") "
    done
    for p in /proc/[0-9]*; do
        name=$(readlink "$p/ns/net" 2>/dev/null) || continue
        case $networks in *" $name "*) kill -9 "${p#/proc/}" 2>/dev/null || true ;; esac
    done
    rm -rf "$run"
}

[ "$command" = up ] || [ -d "$run" ] || stop_with 1 "$dir has no hosts"
case $command:$# in
    up:0) usage ;;
    up:*) up "$@" ;;
    mpi:0 | mpi:1 | on:0 | on:1) usage ;;
    mpi:*) mpi "$@" ;;
    on:*) enter "$@" ;;
    agent:*) enter "$1" sh -c "${*:2}" ;; # mpirun's ssh
    first:*) first "$@" ;;
    link:2) at_switch link set "$1" "$2" ;;
    crash:1) at_switch link set "$1" down && kill -9 "$(first_of "$1")" ;;
    hide:2) nsenter -t "$(first_of "$1")" --mount mount -t tmpfs hidden "$2" ;;
    readonly:2) nsenter -t "$(first_of "$1")" --mount sh -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"' "$2" ;;
    down:0) down ;;
    *) usage ;;
esac
