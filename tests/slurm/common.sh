# Sourced by the tests under Slurm, after cli/common.sh: a Slurm of this machine's own, of $nodes nodes (1).
slurm="$work/slurm"
"$SOURCE/tools/slurm_local.sh" start "$slurm" "${nodes:-1}" >"$work/start" 2>&1
code=$?
trap '"$SOURCE/tools/slurm_local.sh" stop "$slurm"; sleep 1; rm -rf "$work"' EXIT
[ $code = 0 ] || { cat "$work/start"; exit 77; }
export SLURM_CONF="$slurm/slurm.conf" MICROW
cd "$work" || exit 1

state_of() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'; }
wait_for() { # wait_for JOB STATE SECONDS
    for i in $(seq $(($3 * 5))); do
        [ "$(state_of "$1")" = "$2" ] && return 0
        sleep 0.2
    done
    return 1
}
tell() { # what Slurm knows of a job that did not end as it should
    fail "job $1 is $(state_of "$1")"
    scontrol show job "$1" >&2
    tail -n 5 "$slurm"/log/* >&2
}
