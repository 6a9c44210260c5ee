# All stages at 1, 2, 3 and 4 ranks give the same bytes; finished stages are skipped; changed settings are refused.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
files="activations/small/activations.h5 sae_models/small/sae.safetensors sae_models/small/concepts.json
sae_models/small/names.csv runs/small/evaluate.json runs/small/steer.json"

for ranks in 1 2 3 4; do
    mpi $ranks "$MICROW" run "$work/exp.yaml" --set store="$work/s$ranks" >"$work/out$ranks" 2>"$work/err$ranks" ||
        { fail "run at $ranks ranks"; cat "$work/err$ranks" >&2; }
    for f in $files; do check "$f at $ranks ranks" cmp "$work/s1/$f" "$work/s$ranks/$f"; done
done
check "no leak" sh -c "! grep -q 'not freed' $work/err1"
for stage in harvest train discover evaluate steer; do check "prints $stage" grep -q "^$stage: " "$work/out1"; done
check "history" grep -q '"fvu"' "$work/s1/sae_models/small/training_history.json"

# Other variants and kinds in every stage. BatchTopK selects over all ranks at once, but does not depend on their
# number. The harvest is that of the first experiment.
kinds="batch_topk: sae.variant=batch_topk
matryoshka: sae.variant=matryoshka_batch_topk sae.groups=[64,192] train.ema=0.9
relu: sae.variant=relu train.sparsity=1
jump_relu: sae.variant=jump_relu train.l0_target=8 train.resample_every=20 train.dead_after=4000
gated: sae.variant=gated train.normalize=standard train.init=data
transcoder: sae.site=1.resid_post sae.target=2.mlp_out sae.skip=true train.k_anneal=20
crosscoder: sae.sites=[1.resid_post,2.mlp_out] sae.variant=multi_topk train.schedule=cosine"
[ "${MICROW_QUICK:-}" ] && kinds=$(echo "$kinds" | grep '^batch_topk\|^relu\|^transcoder\|^crosscoder') # the unit tests cover all of them
echo "$kinds" | while IFS=: read -r kind settings; do
    sets="--set name=$kind"
    for s in $settings; do sets="$sets --set $s"; done
    for ranks in 1 3; do
        mpi $ranks "$MICROW" run "$work/exp.yaml" --set store="$work/s$ranks" $sets >"$work/$kind.$ranks" 2>"$work/err" </dev/null ||
            { echo "$kind at $ranks ranks"; cat "$work/err" >&2; }
        grep -q 'not freed' "$work/err" && echo "leak: $kind at $ranks ranks"
        grep -q "^harvest: complete" "$work/$kind.$ranks" || echo "harvest was made again: $kind"
    done
    for f in sae_models/$kind/sae.safetensors sae_models/$kind/cfg.json sae_models/$kind/concepts.json \
        runs/$kind/evaluate.json runs/$kind/steer.json; do
        cmp "$work/s1/$f" "$work/s3/$f" || echo "$f differs"
    done
done >"$work/kinds" 2>&1
checks=$((checks + 7))
[ -s "$work/kinds" ] && { fail "variants and kinds"; cat "$work/kinds" >&2; }
check "threshold" grep -q '"threshold": [0-9]' "$work/s1/sae_models/batch_topk/cfg.json"
check "both sites of the crosscoder" sh -c "grep -q '2.mlp_out' $work/s1/runs/crosscoder/evaluate.json && grep -q '1.resid_post' $work/s1/runs/crosscoder/evaluate.json"
check "the transcoder rebuilds its target" sh -c "! grep -q '\"site\": \"1.resid_post\"' $work/s1/runs/transcoder/evaluate.json"
for kind in batch_topk relu crosscoder; do
    check "baselines of $kind" sh -c "grep -q '\"pca\"' $work/s1/runs/$kind/evaluate.json && grep -q '^  random .* to ' $work/$kind.1"
done
check "no baselines of a transcoder" sh -c "! grep -q baselines $work/s1/runs/transcoder/evaluate.json && ! grep -q '^  random ' $work/transcoder.1"
refuses 1 "steers only by adding to latents" "$MICROW" steer "$work/exp.yaml" --set store="$work/s1" --set name=crosscoder \
    --set "sae.sites=[1.resid_post,2.mlp_out]" --set "steer={prompts: [a], edits: {3: 2}}" --overwrite
refuses 1 "sparsify has no relu SAEs" "$MICROW" export --sae "$work/s1/sae_models/relu" --format sparsify --out "$work/none"
refuses 1 "SAELens has no multi_topk crosscoders" "$MICROW" export --sae "$work/s1/sae_models/crosscoder" --format saelens --out "$work/none"

"$MICROW" run "$work/exp.yaml" --set store="$work/s1" >"$work/again" 2>&1
check "harvest skipped" grep -q "^harvest: complete" "$work/again"
check "train skipped" grep -q "^train: complete" "$work/again"
refuses 1 "made with other settings" "$MICROW" train "$work/exp.yaml" --set store="$work/s1" --set sae.k=9
refuses 1 "made with other settings" "$MICROW" harvest "$work/exp.yaml" --set store="$work/s1" --set harvest.dtype=f16
check "overwrite" "$MICROW" train "$work/exp.yaml" --set store="$work/s1" --set sae.k=9 --overwrite
for stage in discover evaluate; do
    check "$stage without baselines" sh -c "$MICROW $stage $work/exp.yaml --set store=$work/s1 --set sae.k=9 --set discover.baseline_rows=0 --set evaluate.baselines=false --overwrite >$work/out 2>$work/err && ! grep -q 'random\|trained' $work/out"
done
check "report" "$MICROW" report "$work/exp.yaml" --set store="$work/s1"

check "inspect store" "$MICROW" inspect "$work/s2/activations/small"
check "inspect --quick" sh -c "$MICROW inspect --quick $work/s2/activations/small | grep -q 'checksums not verified'"
check "inspect sae" "$MICROW" inspect "$work/s2/sae_models/small"
for what in runs/small sae_models/small/cfg.json sae_models/small/history.jsonl sae_models/small/concepts.json; do
    check "inspect $what" "$MICROW" inspect "$work/s2/$what"
done
check "inspect model" sh -c "$MICROW inspect $SOURCE/configs/demo/model | grep -q '4 layers, width 128'"
check "inspect tokenizer" sh -c "$MICROW inspect $SOURCE/configs/demo/model/tokenizer.json | grep -q '962 ids'"
check "inspect experiment" sh -c "$MICROW inspect $work/exp.yaml | grep -q 'n_latents: 256'"
timeout --foreground --preserve-status -s TERM 1 "$MICROW" train "$work/exp.yaml" --set store="$work/s1" --set name=stopped --set sae.activations=small --set train.tokens=50_000_000 >/dev/null 2>&1
check "inspect checkpoint" sh -c "$MICROW inspect \$(ls $work/s1/sae_models/stopped/checkpoint-*.safetensors | tail -n 1) | grep -q 'the checksum matches'"
refuses 1 "this folder contains no activations, SAE, run or model" "$MICROW" inspect "$work/s1/sae_models"
refuses 1 "cannot be opened as HDF5" "$MICROW" inspect "$SOURCE/README.md"

# plan
"$MICROW" plan "$work/exp.yaml" --gpus 64 --nodes 8 >"$work/plan" 2>"$work/err"
check "a row for 64 GPUs" grep -q "^ *64 *8 " "$work/plan"
check "measured" sh -c "$MICROW plan $work/exp.yaml --set store=$work/planned | grep -q '^ *1 *1 '"
check "at 3 ranks" mpi 3 "$MICROW" plan "$work/exp.yaml" --set store="$work/planned"
for model in gpt2 gemma2-9b llama31-8b; do check "plan $model" sh -c "cd $SOURCE && $MICROW plan configs/plan/$model.yaml --gpus 8"; done
refuses 2 "expected a100, h100, h200, or measured" "$MICROW" plan "$work/exp.yaml" --device tpu
refuses 2 "--nodes: expected at most 4, the number of ranks, found 8" "$MICROW" plan "$work/exp.yaml" --gpus 4 --nodes 8
check "inspect tensors" "$MICROW" inspect "$work/s2/sae_models/small/sae.safetensors"
if command -v h5dump >/dev/null; then
    check "h5dump reads it" sh -c "h5dump -d /tokens/position -c 5 $work/s1/activations/small/activations.h5 | grep -q '(0): '"
    check "h5dump finds the dtype" sh -c "h5dump -A $work/s1/activations/small/activations.h5 | grep -q bf16"
fi

# generate, with a steered latent
"$MICROW" generate --model "$SOURCE/configs/demo/model" --prompt "Anna and Boris" --max-new-tokens 12 >"$work/plain" 2>&1
"$MICROW" generate --model "$SOURCE/configs/demo/model" --prompt "Anna and Boris" --max-new-tokens 12 \
    --sae "$work/s2/sae_models/small" --add 1=30,2=30,3=30 >"$work/turned" 2>&1
check "continues the prompt" grep -q "^Anna and Boris ." "$work/plain"
check "steering changes it" sh -c "! cmp -s $work/plain $work/turned"
check "layers" sh -c "$MICROW layers --model $SOURCE/configs/demo/model | grep -q '^3.resid_post *128'"
check "config" sh -c "$MICROW config $work/exp.yaml | grep -q 'n_latents: 256'"
for format in saelens sparsify dictionary_learning; do
    check "export $format" "$MICROW" export --sae "$work/s2/sae_models/small" --format $format --out "$work/$format"
    check "$format config" sh -c "test -s $work/$format/cfg.json || test -s $work/$format/config.json"
done
# hooks from the file
cat >>"$work/exp.yaml" <<'END'
hooks:
  list:
    - {site: 0.resid_post, kind: statistics}
    - {site: 1.resid_post, kind: scale, factor: 3}
    - {site: 1.resid_post, kind: ablate, columns: [0]}
    - {site: 1.resid_post, kind: statistics}
END
check "hooks" mpi 2 "$MICROW" harvest "$work/exp.yaml" --set store="$work/hooks"
check "statistics" grep -q '"site": "1.resid_post"' "$work/hooks/runs/small/statistics.json"
check "values differ" sh -c "! cmp -s $work/hooks/activations/small/activations.h5 $work/s1/activations/small/activations.h5"
finish
