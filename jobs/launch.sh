# Sourced by the job files: starts a microw command on the job's tasks, passes signals on to it, and requeues the job if
# it ends with 75: saved, not finished. MICROW names the program (microw), MICROW_LAUNCH the command that starts tasks.

# In a bundle the default is the program of the bundle.
own=$(dirname "${BASH_SOURCE[0]}")/../bin/microw
[ -n "${MICROW:-}" ] || ! [ -x "$own" ] || MICROW=$own

launch() { # launch COMMAND ARGUMENTS...
    export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
    ${MICROW_LAUNCH:-srun --mpi=pmix --cpu-bind=cores} "${MICROW:-microw}" "$@" &
    launcher=$!
    trap 'kill -USR1 $launcher' USR1 TERM
    wait $launcher
    code=$?
    while kill -0 $launcher 2>/dev/null; do # a signal ended the wait, but not the launcher
        wait $launcher
        code=$?
    done
    if [ $code = 75 ]; then
        echo "saved; requeued"
        # the job id of an array's last task is that of the whole array
        job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
        scontrol requeue "${job:-$SLURM_JOB_ID}" || exit $code
        sleep 30 # the requeue ends this script
    fi
    exit $code
}
