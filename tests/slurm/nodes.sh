# The real jobs/run.sbatch on two nodes, a task on each: the same bytes as one process.
. "$SOURCE/tests/cli/common.sh"
nodes=2
. "$SOURCE/tests/slurm/common.sh"
small >"$work/exp.yaml"
"$MICROW" run "$work/exp.yaml" --set store="$work/one" >/dev/null 2>&1 || fail "one process"
job=$(sbatch --parsable --nodes=2 --ntasks-per-node=1 "$SOURCE/jobs/run.sbatch" "$work/exp.yaml" --set store="$work/two")
wait_for "$job" COMPLETED 120 || { tell "$job"; cat "microw-$job.log" >&2; }
check "on both nodes" sh -c "scontrol show job $job | grep -q ' NodeList=n\[1-2\]'"
check "a task on each" sh -c "cat $slurm/log/slurmd-n1 $slurm/log/slurmd-n2 | grep -c 'launch task StepId=$job.0' | grep -q '^2$'"
for f in activations/small/activations.h5 sae_models/small/sae.safetensors sae_models/small/concepts.json runs/small/evaluate.json; do
    check "$f of two nodes" cmp "$work/one/$f" "$work/two/$f"
done
finish
