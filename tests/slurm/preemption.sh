# The real jobs/run.sbatch under a Slurm of this machine's own: a run to its end; one that a job of a higher partition
# pre-empts, which saves, is requeued, and ends with the same weights; one that fails.
. "$SOURCE/tests/cli/common.sh"
. "$SOURCE/tests/slurm/common.sh"
small | sed 's/tokens: 40_000/tokens: 1_500_000/; s/checkpoint_every: 20/checkpoint_every: 0/' >"$work/exp.yaml"
submit() { sbatch --parsable --ntasks-per-node=2 "$@"; }

"$MICROW" run "$work/exp.yaml" --set store="$work/plain" >/dev/null 2>&1 || fail "the plain run"
whole=$(submit "$SOURCE/jobs/run.sbatch" "$work/exp.yaml" --set store="$work/whole")
wait_for "$whole" COMPLETED 120 || { tell "$whole"; finish; exit; }
check "two tasks, the same weights" cmp "$work/plain/sae_models/small/sae.safetensors" "$work/whole/sae_models/small/sae.safetensors"
check "the log has the result" grep -q "^evaluate: " "microw-$whole.log"

# pre-empted while it trains
low=$(submit "$SOURCE/jobs/run.sbatch" "$work/exp.yaml" --set store="$work/low")
for i in $(seq 300); do
    [ -s "$work/low/sae_models/small/history.jsonl" ] && break
    sleep 0.1
done
high=$(sbatch --parsable -p high --exclusive --output=/dev/null --wrap 'sleep 2')
wait_for "$high" COMPLETED 120 || fail "the pre-empting job is $(state_of "$high")"
check "it saved" grep -q "training interrupted by signal" "microw-$low.log"
wait_for "$low" COMPLETED 180 || { fail "job $low is $(state_of "$low")"; cat "microw-$low.log" >&2; }
check "it went on where it was" grep -q "resuming training at step" "microw-$low.log"
check "it was requeued once" sh -c "scontrol show job $low | grep -q 'Restarts=1'"
check "the same weights after the pre-emption" cmp "$work/plain/sae_models/small/sae.safetensors" "$work/low/sae_models/small/sae.safetensors"
check "the same concepts" cmp "$work/plain/sae_models/small/concepts.json" "$work/low/sae_models/small/concepts.json"

# a job that cannot be is not requeued
bad=$(submit "$SOURCE/jobs/run.sbatch" "$work/exp.yaml" --set sae.k=1000 --set store="$work/bad")
wait_for "$bad" FAILED 60 || fail "the bad job is $(state_of "$bad")"
check "and says why" grep -q "sae.k = 1000 is larger than" "microw-$bad.log"
finish
