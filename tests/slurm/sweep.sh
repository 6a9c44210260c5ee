# The real jobs/sweep.sbatch as an array under a Slurm of this machine's own: a harvest, then a job a point, of which one is
# pre-empted and one cannot be; a task that is lost ends its job, and the job that is sent again ends with the same bytes.
. "$SOURCE/tests/cli/common.sh"
. "$SOURCE/tests/slurm/common.sh"
small | sed '/^steer/d; s/tokens: 40_000/tokens: 900_000/; s/checkpoint_every: 20/checkpoint_every: 50/' >"$work/exp.yaml"
cat >>"$work/exp.yaml" <<'END'
sweep:
  points: [{name: a, sae.k: 4}, {name: b, sae.k: 8}, {name: c, sae.variant: batch_topk}, {name: d, sae.variant: jump_relu, train.l0_target: 1e-200}]
END
"$MICROW" sweep "$work/exp.yaml" --set store="$work/plain" >/dev/null 2>&1

harvest=$(MICROW_COMMAND=harvest sbatch --parsable "$SOURCE/jobs/run.sbatch" "$work/exp.yaml" --set store="$work/array")
array=$(sbatch --parsable --dependency=afterok:"$harvest" --array=0-3 "$SOURCE/jobs/sweep.sbatch" "$work/exp.yaml" --set store="$work/array")
for i in $(seq 600); do # pre-empted when two of them train
    [ -s "$work/array/sae_models/small.b/history.jsonl" ] && break
    sleep 0.1
done
high=$(sbatch --parsable -p high --exclusive --output=/dev/null --wrap 'sleep 1')
wait_for "$high" COMPLETED 120 || tell "$high"
for task in 0 1 2; do wait_for "${array}_$task" COMPLETED 180 || { tell "${array}_$task"; cat "microw-sweep-${array}_$task.log" >&2; }; done
wait_for "${array}_3" FAILED 60 || tell "${array}_3"
check "the last says why" grep -q "the loss is not finite" "microw-sweep-${array}_3.log"
check "one was requeued" sh -c "cat microw-sweep-*.log | grep -q 'saved; requeued'"
for point in a b c; do
    for f in sae_models/small.$point/sae.safetensors sae_models/small.$point/concepts.json runs/small.$point/evaluate.json; do
        check "$f as from one job" cmp "$work/plain/$f" "$work/array/$f"
    done
done
"$MICROW" sweep "$work/exp.yaml" --set store="$work/array" --table >"$work/out" 2>&1
check "the table" grep -q "3 of 4 points are finished" "$work/out"

# a lost task: what a node takes with it when it fails
sed 's/^sweep:.*//; /^  points/d; s/tokens: 900_000/tokens: 1_500_000/' "$work/exp.yaml" >"$work/one.yaml"
"$MICROW" run "$work/one.yaml" --set store="$work/whole" >/dev/null 2>&1 || fail "the whole run"
lost=$(sbatch --parsable --ntasks-per-node=2 "$SOURCE/jobs/run.sbatch" "$work/one.yaml" --set store="$work/lost")
for i in $(seq 300); do
    ls "$work"/lost/sae_models/small/checkpoint-* >/dev/null 2>&1 && break
    sleep 0.1
done
pkill -9 -n -f "^$MICROW run $work/one.yaml --set store=$work/lost"
wait_for "$lost" FAILED 60 || tell "$lost"
again=$(sbatch --parsable --ntasks-per-node=1 "$SOURCE/jobs/run.sbatch" "$work/one.yaml" --set store="$work/lost")
wait_for "$again" COMPLETED 120 || { tell "$again"; cat "microw-$again.log" >&2; }
check "it went on from a checkpoint" grep -q "resuming training at step" "microw-$again.log"
check "the same weights after the loss" cmp "$work/whole/sae_models/small/sae.safetensors" "$work/lost/sae_models/small/sae.safetensors"
finish
