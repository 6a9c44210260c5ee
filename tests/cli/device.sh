# The same experiment on a GPU and on the CPU, at 1 and 2 ranks. Skipped without a GPU.
. "$SOURCE/tests/cli/common.sh"

small >"$work/exp.yaml"
few="--set dataset.limit_documents=60 --set dataset.batch=8 --set train.tokens=2048 --set train.batch=256 --set sae.site=1.resid_post"
run() { # run RANKS DEVICE STORE COMMAND
    mpi "$1" "$MICROW" "$4" "$work/exp.yaml" $few --set store="$work/$3" --set model.device="$2" 2>"$work/err"
}

run 1 cuda gpu harvest >"$work/out" || {
    grep -q "is not available\|not in this build" "$work/err" && { echo "skipped: no GPU"; exit 77; }
    cat "$work/err" >&2
    exit 1
}
mkdir "$work/cpu" "$work/two"
cp -r "$work/gpu/activations" "$work/cpu"
fvu() { sed -n 's/^train:.*FVU \([0-9.]*\).*/\1/p'; }
one=$(run 1 cuda gpu train | fvu)
host=$(run 1 cpu cpu train | fvu)
check "training works on the device" [ -n "$one" ]
check "FVU on the GPU ($one) and on the CPU ($host) agree within 1 %" \
    awk "BEGIN { exit !(($one - $host) ^ 2 < ($host / 100) ^ 2) }"
run 2 cuda two harvest >/dev/null || fail "two ranks harvest"
two=$(run 2 cuda two train | fvu)
check "FVU with two ranks ($two) agrees within 1 %" awk "BEGIN { exit !(($one - $two) ^ 2 < ($one / 100) ^ 2) }"
check "what a GPU trained is whole" "$MICROW" inspect "$work/gpu/sae_models/small"

# A sweep trains its points together on one device; each gives the bytes of training alone there.
sed '/^discover/d; /^evaluate/d; /^steer/d; /^naming/d; /^report/d' "$work/exp.yaml" >"$work/sweep.yaml"
printf 'sweep:\n  sae.variant: [topk, batch_topk]\n' >>"$work/sweep.yaml"
mkdir "$work/sweep"
cp -r "$work/gpu/activations" "$work/sweep"
few="$few --set train.tokens=1024 --set train.threshold_batches=1"
"$MICROW" sweep "$work/sweep.yaml" $few --set store="$work/sweep" --set model.device=cuda >"$work/out" 2>"$work/err" ||
    { fail "a sweep on the device"; cat "$work/err" >&2; }
check "its points are trained together" grep -q '"saes":2' "$work/err"
"$MICROW" train "$work/exp.yaml" $few --set store="$work/sweep" --set name=alone --set sae.activations=small \
    --set sae.variant=batch_topk --set model.device=cuda >/dev/null 2>"$work/err" || fail "one of them alone"
check "and alone to the same bytes" cmp "$work/sweep/sae_models/alone/sae.safetensors" \
    "$work/sweep/sae_models/small.batch_topk/sae.safetensors"

# Refused: one rank with a GPU and one without; ranks with different commands.
train="$MICROW train $work/exp.yaml $few --set store=$work/cpu --set name=mixed --set sae.activations=small --set model.device=auto"
refuses 2 "1 of 2 ranks have a GPU" "$MPIRUN" --oversubscribe -np 1 $train : -np 1 env CUDA_VISIBLE_DEVICES=none EMULATOR_GPUS=0 $train
refuses 2 "ranks differ in the command" "$MPIRUN" --oversubscribe -np 1 $train : -np 1 $train --set model.device=cpu
finish
