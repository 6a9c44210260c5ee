# Numbers that are not finite or undefined: one error that names the place, or null and a dash; never nan, never a
# missing value.
. "$SOURCE/tests/cli/common.sh"
needs python3
small | sed 's/samples: 2/samples: 1/' >"$work/exp.yaml"
model="$SOURCE/configs/demo/model"

# poke FILE TENSOR INDEX VALUE: sets one value of a tensor in f16 or f32
poke() {
    python3 - "$@" <<'END'
import json, struct, sys
path, name, index, value = sys.argv[1:5]
data = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", data[:8])[0]
tensor = json.loads(data[8 : 8 + n])[name]
kind = {"F32": "f", "F16": "e"}[tensor["dtype"]]
struct.pack_into("<" + kind, data, 8 + n + tensor["data_offsets"][0] + struct.calcsize(kind) * int(index), float(value))
open(path, "wb").write(data)
END
}
# strict JSON: no NaN, no Infinity
strict() {
    python3 - "$@" <<'END'
import json, sys
def refuse(word):
    raise ValueError(word)
for path in sys.argv[1:]:
    for text in open(path).read().splitlines() if path.endswith("jsonl") else [open(path).read()]:
        json.loads(text, parse_constant=refuse)
END
}
# holds FILE EXPRESSION: expects the expression to be true of the file's value j
holds() {
    python3 -c 'import json, sys; j = json.load(open(sys.argv[1])); sys.exit(0 if eval(sys.argv[2]) else 1)' "$1" "$2"
}

"$MICROW" run "$work/exp.yaml" >"$work/out" 2>&1 || fail "run"
saes="$work/store/sae_models/small"
runs="$work/store/runs/small"

# a model
mkdir "$work/bad" && cp "$model"/* "$work/bad/" && chmod -R u+w "$work/bad"
weight=transformer.h.2.mlp.c_fc.weight
poke "$work/bad/model.safetensors" $weight 700 nan
site="2.mlp_act is the first site that is not finite: nan in column 188 at token [0-9]*, position 0 of sequence 0; weight '$weight' holds nan at \[1, 188\]"
refuses 1 "$site" "$MICROW" generate --model "$work/bad" --prompt "one morning"
[ -s "$work/out" ] && fail "a text was written"
refuses 1 "$site" "$MICROW" generate --model "$work/bad" --prompt "one morning" --sae "$saes" --scale 3=2
refuses 1 "the clean model: $site" "$MICROW" evaluate "$work/exp.yaml" --set model.path="$work/bad" --overwrite
printf 'one morning\n' | "$MICROW" lab "$work/exp.yaml" --set model.path="$work/bad" >"$work/out" 2>"$work/err"
check "the lab says it" grep -q "$site" "$work/err"
for ranks in 2 3; do
    for stage in evaluate steer; do
        checks=$((checks + 1))
        mpi $ranks "$MICROW" $stage "$work/exp.yaml" --set model.path="$work/bad" --overwrite >"$work/out" 2>"$work/err"
        [ $? = 1 ] || fail "$stage at $ranks ranks did not end with 1"
        grep -q "$site" "$work/err" || fail "$stage at $ranks ranks names no site"
        [ "$(grep -c 'microw: error' "$work/err")" = 1 ] || fail "not one message of $stage at $ranks ranks"
    done
done
cp "$model/model.safetensors" "$work/bad/" && chmod u+w "$work/bad/model.safetensors"
poke "$work/bad/model.safetensors" transformer.ln_f.weight 5 inf
refuses 1 "logits is the first site that is not finite.*weight 'transformer.ln_f.weight' holds inf at \[5\]" \
    "$MICROW" generate --model "$work/bad" --prompt "one morning"
refuses 1 "weight 'transformer.ln_f.weight' holds inf" "$MICROW" discover "$work/exp.yaml" --set model.path="$work/bad" --overwrite

# an SAE, in every command that reads one
cp -r "$saes" "$work/sae"
poke "$work/sae/sae.safetensors" W_dec 130 inf
bad="sae.safetensors: tensor 'W_dec': \[1, 2\] is inf"
refuses 1 "$bad" "$MICROW" generate --model "$model" --prompt a --sae "$work/sae"
refuses 1 "$bad" "$MICROW" inspect "$work/sae"
refuses 1 "$bad" "$MICROW" export --sae "$work/sae" --format saelens --out "$work/none"
"$MICROW" export --sae "$saes" --format sparsify --out "$work/theirs" >/dev/null 2>&1 || fail "export"
poke "$work/theirs/sae.safetensors" encoder.bias 7 nan
refuses 1 "tensor 'encoder.bias': \[7\] is nan" "$MICROW" import --from "$work/theirs" --format sparsify --out "$work/none"

# stored activations with a row that is not finite: the error names it, or every reader leaves it out
cat >>"$work/exp.yaml" <<END
hooks:
  list: [{site: 1.resid_post, kind: scale, factor: 1e37, columns: [3]}]
END
kept="--set name=kept --set harvest.nan=keep --set harvest.dtype=f16 --set train.normalize=none"
"$MICROW" harvest "$work/exp.yaml" $kept >/dev/null 2>&1 || fail "harvest that keeps"
cp -r "$saes" "$work/store/sae_models/kept"
for ranks in 1 3; do
    mpi $ranks "$MICROW" evaluate "$work/exp.yaml" $kept --overwrite >"$work/out" 2>"$work/err" && fail "evaluated what is not finite"
    check "named at $ranks" grep -q "row 0, column 3 of site 1.resid_post is -*inf" "$work/err"
    check "once at $ranks" [ "$(grep -c 'microw: error' "$work/err")" = 1 ]
done

# a harvest stops at the first block of each rank, though another is digested while one is written
mpi 2 "$MICROW" harvest "$work/exp.yaml" --set name=stops --set harvest.dtype=f16 --set dataset.batch=1 >"$work/out" 2>"$work/err" && fail "harvested what is not finite"
check "one error a rank" [ "$(grep -c 'microw: error' "$work/err")" -le 2 ]
check "with its place" grep -q "site 1.resid_post is not finite in f16 at token" "$work/err"

# undefined values are null and a dash: constant activations, an ablation without effect, no words
sed -e '/^hooks/,$d' -e 's/^evaluate:.*/evaluate: {tokens: 3000}/' "$work/exp.yaml" >"$work/flat.yaml"
cat >>"$work/flat.yaml" <<END
hooks:
  list: [{site: 1.resid_post, kind: ablate}]
END
flat="--set name=flat"
"$MICROW" harvest "$work/flat.yaml" $flat >/dev/null 2>"$work/err" || fail "harvest of zeros"
"$MICROW" train "$work/flat.yaml" $flat >"$work/out" 2>"$work/err" || fail "training on zeros"
check "a dash for FVU" grep -q "FVU -, explained variance -" "$work/out"
check "history and progress are JSON" strict "$work/store/sae_models/flat/history.jsonl"
grep '^{' "$work/err" >"$work/progress.jsonl"
check "progress is JSON" strict "$work/progress.jsonl"
"$MICROW" evaluate "$work/flat.yaml" $flat >"$work/out" 2>"$work/err" || fail "evaluation of zeros"
check "a dash and its reason" grep -q '"-": undefined, since the activations do not vary' "$work/out"
evaluated="$work/store/runs/flat/evaluate.json"
check "evaluation is JSON" strict "$evaluated"
check "all keys are there" holds "$evaluated" 'j["fvu"] is None and j["r2"] is None and j["explained_variance"] is None and j["cosine"] is None and "l0" in j and j["by_position"][0]["fvu"] is None and j["by_site"][0]["fvu"] is None'
! grep -qi 'nan' "$work/out" || fail "nan is printed"
for command in report plot inspect; do
    what="$work/flat.yaml $flat"
    [ $command = inspect ] && what="$work/store/runs/flat"
    checks=$((checks + 1))
    "$MICROW" $command $what >"$work/out" 2>"$work/err" || fail "$command of what is undefined"
    ! grep -qi 'nan' "$work/out" || fail "nan is printed by $command"
done

# one text has no interval
check "steering is JSON" strict "$runs/steer.json"
check "no interval of one text" holds "$runs/steer.json" 'j["variants"][1]["category"]["low"] is None and j["variants"][1]["category"]["change"]["high"] is None and j["variants"][1]["category"]["percent"] is not None'
check "everything else is JSON" strict "$saes/concepts.json" "$saes/history.jsonl" "$runs/evaluate.json"

# a sweep's table: ties are marked as ties, undefined values are never better
{
    sed '/^hooks/,$d' "$work/exp.yaml"
    echo 'sweep: {points: [{name: hair, sae.k: 4}, {name: tie, sae.k: 5}, {name: worse, sae.k: 6}, {name: flat, sae.k: 7}, {name: wide, sae.k: 8}]}'
} >"$work/sweep.yaml"
"$MICROW" sweep "$work/sweep.yaml" --set train.tokens=2000 --set train.batch=64 >"$work/out" 2>"$work/err" || fail "sweep"
point() { # point NAME L0 FVU CE
    echo "{\"rows\": 10, \"l0\": $2, \"fvu\": $3, \"dead\": 1, \"ce_recovered_zero\": $4}" >"$work/store/runs/small.$1/evaluate.json"
}
point hair 3.99 0.035400 0.99971
point tie 4.00 0.035399 0.99970
point worse 4.00 0.0385 0.9990
point flat 4.00 null null
point wide 8.00 0.0354 0.9998
"$MICROW" sweep "$work/sweep.yaml" --set train.tokens=2000 --set train.batch=64 --table >"$work/out" 2>"$work/err" || fail "sweep --table"
check "all are finished" grep -q "5 of 5 points are finished" "$work/out"
check "a hair is a tie" test "$(grep -c '^\(hair\|tie\) .* FVU, CE$' "$work/out")" = 2
check "clearly worse" grep -q '^worse .* 99.90 %$' "$work/out"
check "undefined is a dash" grep -q '^flat .* - .* -$' "$work/out"
check "no better with twice the latents" grep -q '^wide .* 99.98 %  CE$' "$work/out"
check "the rule is told" grep -q "L0 up to 2 % larger" "$work/out"
check "the table is JSON" strict "$runs/sweep.json"
check "nothing is left out" holds "$runs/sweep.json" 'sum(p["fvu"] is None and p["ce_recovered_zero"] is None and not p["best_fvu"] for p in j) == 1'

# the smallest possible sizes, for the sanitizers: some latents are never active
for least in "sae.n_latents=1 sae.k=1" "sae.n_latents=8 sae.k=8 discover.top_texts=1000" "sae.variant=batch_topk sae.n_latents=8 sae.k=2"; do
    set -- --set name=least --set store="$work/least" --set hooks.list=[] --set dataset.limit_documents=40
    for value in $least train.tokens=2000 train.batch=64 "steer.add={0: 2}" steer.concept=; do set -- "$@" --set "$value"; done
    check "with $least" "$MICROW" run "$work/exp.yaml" "$@"
    rm -rf "$work/least"
done

# training that diverges ends with the step in the message, and keeps the previous checkpoint
"$MICROW" harvest "$work/exp.yaml" --set name=far --set hooks.list=[] >/dev/null 2>&1 || fail "harvest"
refuses 1 "step 1: the loss is not finite" "$MICROW" train "$work/exp.yaml" --set name=far --set hooks.list=[] \
    --set sae.variant=jump_relu --set train.l0_target=1e-200 --set train.checkpoint_every=1
check "no SAE is left" [ ! -f "$work/store/sae_models/far/sae.safetensors" ]
check "the history is JSON" strict "$work/store/sae_models/far/history.jsonl"
finish
