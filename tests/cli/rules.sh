# One rule for all stages: results with the same settings are skipped, others are refused with the keys that differ, and
# results stay until new ones are complete. An SAE is evaluated at the site it was trained on; imports and exports
# overwrite nothing by default.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
exp="$work/exp.yaml"
store="$work/store"
"$MICROW" run "$exp" >"$work/out" 2>"$work/err" || { fail "run"; cat "$work/err" >&2; }
results="activations/small/activations.h5 sae_models/small/sae.safetensors sae_models/small/cfg.json sae_models/small/discovery.h5
sae_models/small/concepts.json sae_models/small/names.csv sae_models/small/history.jsonl sae_models/small/training_history.json
runs/small/evaluate.json runs/small/steer.json runs/small/config.yaml runs/small/manifest.json"
sums() { (cd "$store" && md5sum $results); }
sums >"$work/sums"
same() { sums | cmp -s - "$work/sums" || { fail "$1: a finished file changed"; sums | diff - "$work/sums" >&2; }; }

# ---- the same settings: skipped, each of them listed
for stage in harvest train discover evaluate steer; do
    check "$stage is in the manifest" grep -q "\"$stage\": {" "$store/runs/small/manifest.json"
    "$MICROW" $stage "$exp" >"$work/out" 2>&1
    check "$stage is skipped" grep -q "^$stage: complete" "$work/out"
done
(cd "$work" && mkdir -p elsewhere && cd elsewhere && "$MICROW" run ../exp.yaml) >"$work/out" 2>&1
check "from another folder the same" test "$(grep -c ': complete' "$work/out")" = 5
check "discover shows again, and may show more" sh -c "$MICROW discover $exp --set discover.show=4 | grep -c '^latent' | grep -q 4"
same "skipped stages"

# ---- other settings: refused, with the keys; config.yaml stays
refuses 1 "harvest.dtype: bf16 stored, f16 requested" "$MICROW" harvest "$exp" --set harvest.dtype=f16
refuses 1 "sae.k: 8 stored, 9 requested" "$MICROW" train "$exp" --set sae.k=9
refuses 1 "discover.top_texts: 5 stored, 6 requested" "$MICROW" discover "$exp" --set discover.top_texts=6
refuses 1 "evaluate.tokens: 3000 stored, 2000 requested" "$MICROW" evaluate "$exp" --set evaluate.tokens=2000
refuses 1 "steer.samples: 2 stored, 3 requested; steer.seed: 0 stored, 5 requested" "$MICROW" steer "$exp" --set steer.samples=3 --set steer.seed=5
refuses 1 "give the experiment another name (--set name=...), or pass --overwrite" "$MICROW" steer "$exp" --set steer.samples=3
same "refused stages"
cp "$SOURCE/configs/demo/corpus.txt" "$work/corpus.txt"
echo "one more story ." >>"$work/corpus.txt"
refuses 1 "the data has other content" "$MICROW" harvest "$exp" --set dataset.path="$work/corpus.txt"
cp -r "$SOURCE/configs/demo/model" "$work/model"
chmod -R u+w "$work/model"
"$MICROW" harvest "$exp" --set model.path="$work/model" >"$work/out" 2>&1
check "a model that was moved is the same" grep -q "^harvest: complete" "$work/out"
sed -i 's/"layer_norm_epsilon": [^,]*,/"layer_norm_epsilon": 0.01,/' "$work/model/config.json"
refuses 1 "the model_config has other content" "$MICROW" harvest "$exp" --set model.path="$work/model"
refuses 1 "the model has other content" "$MICROW" evaluate "$exp" --set model.path="$work/model"
same "other inputs"

# ---- --overwrite: results stay until the new ones are complete, whatever is refused afterwards
printf 'latent,name\n1,"open' >"$work/broken.csv"
printf '{"words": 3}' >"$work/broken.json"
head -c 3000 /dev/urandom >"$work/random.safetensors"
stays() { # stays CODE TEXT STAGE SETTINGS...: refused with --overwrite, and nothing is lost
    refuses_code=$1 refuses_text=$2 stage=$3
    shift 3
    refuses "$refuses_code" "$refuses_text" "$MICROW" $stage "$exp" --overwrite "$@"
    same "$stage $*"
}
stays 2 "site 9.resid_post is not in this model" harvest --set "harvest.sites=[9.resid_post]"
stays 2 "did you mean" harvest --set "harvest.sites=[1.resid_pots]"
stays 2 "lower dataset.context" harvest --set dataset.context=65 --set dataset.pack=true
stays 1 "quota_gb" harvest --set harvest.dtype=f32 --set quota_gb=0.001
stays 1 "no such file" harvest --set dataset.path="$work/none.txt"
stays 1 "no-such-model" harvest --set model.path=no-such-model
stays 1 "device 'tpu'" harvest --set model.device=tpu
stays 2 "is listed twice" harvest --set "harvest.sites=[1.resid_post, 1.resid_post]"
stays 1 "is not finite in f16" harvest --set harvest.dtype=f16 --set "hooks.list=[{site: 1.resid_post, kind: scale, factor: 24000}]"
stays 2 "site 7.mlp_out is not in this model" harvest --set "hooks.list=[{site: 7.mlp_out, kind: scale, factor: 2}]"
stays 2 "column 4000 of site 1.resid_post: expected from 0 to 127" harvest --set "hooks.list=[{site: 1.resid_post, kind: ablate, columns: [4000]}]"
stays 2 "was not harvested" train --set sae.site=0.resid_post
stays 1 "quota_gb" train --set sae.k=9 --set quota_gb=0.0105
stays 1 "does not exist" train --set sae.k=9 --set "sae.activations=[none]"
stays 2 "sae.k = 300 is larger" train --set sae.k=300
stays 1 "device 'tpu'" train --set sae.k=9 --set model.device=tpu
stays 2 "expected a divisor of the number of ranks" train --set sae.k=9 --set train.shards=2
stays 2 "sae.groups sum to" train --set sae.variant=matryoshka_topk --set "sae.groups=[3, 3]"
stays 1 "none.json" discover --set discover.categories="$work/none.json"
stays 1 "expected an object" discover --set discover.categories="$work/broken.json"
stays 1 "none.csv" discover --set discover.names="$work/none.csv"
stays 1 "no-such-model" discover --set discover.top_texts=6 --set model.path=no-such-model
stays 1 "no-such-model" evaluate --set evaluate.tokens=20 --set model.path=no-such-model
stays 1 "no such file" evaluate --set dataset.path="$work/none.txt"
stays 2 "latent 300: the SAE has 256 latents" steer --set "steer={prompts: [a], edits: {300: 2}}"
stays 1 "no such file" steer --set steer.seed=3 --set steer.measure_path="$work/none.txt"
stays 2 "concept 'no-such-concept': no latent has this name" steer --set "steer={prompts: [a], concept: no-such-concept}"

# ended in the middle: by a signal that it handles, and by one that it cannot
wait_for() { # wait_for FILE PROCESS
    while ! ls $1 >/dev/null 2>&1 && kill -0 "$2" 2>/dev/null; do sleep 0.02; done
}
cut() { # cut SIGNAL CODE FILE COMMAND...: signals the command when FILE exists
    signal=$1 code=$2 file=$3
    shift 3
    rm -f $file # a refused command may have left one
    "$@" >"$work/out" 2>"$work/err" &
    cut_process=$!
    wait_for "$file" $cut_process
    kill -$signal $cut_process
    wait $cut_process 2>/dev/null
    got=$?
    [ $got = "$code" ] || { fail "exit code $got, expected $code: $*"; cat "$work/err" >&2; }
    checks=$((checks + 1))
}
kept() { # everything except the progress of a stage
    sums | grep -v "config.yaml\|manifest.json" >"$work/now"
    grep -v "config.yaml\|manifest.json" "$work/sums" | cmp -s - "$work/now" || { fail "$1 lost what was there"; diff "$work/now" "$work/sums" >&2; }
}
for signal in TERM KILL; do
    code=$([ $signal = TERM ] && echo 75 || echo 137)
    cut $signal $code "$store/activations/small/progress.json" "$MICROW" harvest "$exp" --overwrite --set dataset.limit_documents=0
    kept "a harvest ended by $signal"
    cut $signal $code "$store/sae_models/small/checkpoint-*" "$MICROW" train "$exp" --overwrite --set train.tokens=50_000_000
    kept "a training ended by $signal"
done
# and then resumed
check "the harvest goes on" "$MICROW" harvest "$exp" --overwrite --set dataset.limit_documents=0
check "it is the new one" sh -c "! cmp -s $store/activations/small/activations.h5 $work/none && $MICROW harvest $exp --set dataset.limit_documents=0 | grep -q complete"
check "and back" "$MICROW" harvest "$exp" --overwrite
rm -f "$store"/sae_models/small/checkpoint-*
check "trained by what is there now" sh -c "$MICROW train $exp | grep -q 'train: complete'"
kept "and back"

# ---- unfinished results are kept too
cut TERM 75 "$store/sae_models/cut/checkpoint-*" "$MICROW" train "$exp" --set name=cut --set sae.activations=small --set train.tokens=50_000_000
refuses 1 "belongs to an unfinished training (step" "$MICROW" train "$exp" --set name=cut --set sae.activations=small
check "unless told to" "$MICROW" train "$exp" --set name=cut --set sae.activations=small --overwrite
check "no checkpoint is left" sh -c "! ls $store/sae_models/cut/checkpoint-* 2>/dev/null"
check "and no lock" sh -c "! find $store/sae_models/cut -name '*.lock*' | grep -q ."
cut TERM 75 "$store/activations/cut/progress.json" "$MICROW" harvest "$exp" --set name=cut --set dataset.limit_documents=0
if grep -q '"blocks_done": [1-9]' "$store/activations/cut/progress.json"; then
    refuses 1 "has an unfinished harvest of [0-9]* blocks with other settings (dataset.limit_documents: 0 stored, 400 requested" "$MICROW" harvest "$exp" --set name=cut
fi
check "the harvest goes on with --overwrite" "$MICROW" harvest "$exp" --set name=cut --overwrite

# ---- statistics cover all rows, also of a harvest that was interrupted
echo 'exec "$1" harvest "$2" --set name="$3" --set dataset.limit_documents=0 --set "hooks.list=[{site: 1.resid_post, kind: statistics}]"' >"$work/measured.sh"
measured="sh $work/measured.sh $MICROW $exp"
check "statistics of a whole harvest" $measured all
cut TERM 75 "$store/activations/twice/progress.json" $measured twice
check "of one that was interrupted" $measured twice
check "the same" cmp "$store/runs/all/statistics.json" "$store/runs/twice/statistics.json"
rm -r "$store/activations/all" "$store/activations/twice"

# ---- the site of an SAE
check "an SAE of another site" "$MICROW" train "$exp" --set name=mlp --set sae.activations=small --set sae.site=2.mlp_out
"$MICROW" evaluate "$exp" --set name=mlp --set sae.activations=small >"$work/out" 2>"$work/err" || { fail "evaluate at the SAE's site"; cat "$work/err" >&2; }
check "it was measured there" grep -q '"site": "2.mlp_out"' "$store/runs/mlp/evaluate.json"
fvu() { grep -m 1 '"fvu"' "$store/runs/$1/evaluate.json"; }
mlp=$(fvu mlp)
check "and named there" "$MICROW" evaluate "$exp" --set name=mlp --set sae.activations=small --set sae.site=2.mlp_out --overwrite
check "the same" test "$mlp" = "$(fvu mlp)"
for stage in evaluate discover; do
    refuses 2 "sae.site is '1.resid_post', but the SAE in .*/mlp was trained on '2.mlp_out'" "$MICROW" $stage "$exp" --set name=mlp --set sae.activations=small --set sae.site=1.resid_post
done
refuses 2 "is not a transcoder" "$MICROW" evaluate "$exp" --set name=mlp --set sae.activations=small --set sae.target=1.resid_post
check "discovered there" "$MICROW" discover "$exp" --set name=mlp --set sae.activations=small

# ---- killed between the two files of an SAE: the folder has one SAE, with its names and history
sae="$store/sae_models/small"
sed -i '2s/,.*/,"mine","","me",/' "$sae/names.csv"
cp -r "$sae" "$work/trained"
check "another training" "$MICROW" train "$exp" --set sae.k=9 --overwrite
check "its names are its own" sh -c "! test -e $sae/names.csv && grep -q mine $sae/names-*.csv"
cp "$sae/sae.safetensors" "$work/nine.safetensors"
cp "$sae/cfg.json" "$work/nine.json"
cp "$sae/history.jsonl" "$work/nine.jsonl"
rm -r "$sae"
cp -r "$work/trained" "$sae"
mark=$(grep -o '"fingerprint": "[0-9a-f]*' "$work/nine.json" | grep -o '[0-9a-f]*$' | head -c 8)
cp "$work/nine.safetensors" "$sae/sae.safetensors.partial" # state after the configuration was renamed, before the weights
cp "$work/nine.json" "$sae/cfg.json"
cp "$work/nine.jsonl" "$sae/history.jsonl.$mark.partial"
cp "$sae/training_history.json" "$sae/training_history.json.$mark.partial"
check "the new SAE is there" sh -c "$MICROW inspect $sae | grep -q 'k 9'"
check "its training is complete" sh -c "$MICROW train $exp --set sae.k=9 | grep -q complete"
check "the weights have their name" cmp "$work/nine.safetensors" "$sae/sae.safetensors"
check "and so has the record" cmp "$work/nine.jsonl" "$sae/history.jsonl"
check "nothing is left over" sh -c "! ls $sae | grep partial"
rm -r "$sae"
cp -r "$work/trained" "$sae"
cp "$work/nine.safetensors" "$sae/sae.safetensors.partial" # state before both
check "the old SAE is there" sh -c "$MICROW inspect $sae | grep -q 'k 8'"
rm "$sae/sae.safetensors.partial"
rm "$sae/concepts.json"
check "what is made of a discovery is made again" sh -c "$MICROW discover $exp && test -s $sae/concepts.json"

# ---- a row of names.csv with more fields than the header; a device in place of a file
cp "$sae/names.csv" "$work/names.csv"
printf '1,red, green,,,0.5,note\n' >>"$sae/names.csv"
refuses 1 "7 fields, expected at most 5: quote texts that contain a comma" "$MICROW" report "$exp"
cp "$work/names.csv" "$sae/names.csv"
refuses 1 "not a regular file" "$MICROW" names "$exp" --export /dev/null --format csv
check "the device is still one" test -c /dev/null

# ---- activations with other settings than the file are reported
"$MICROW" train "$exp" --set harvest.dtype=f32 >"$work/out" 2>"$work/err"
check "told" grep -q "was harvested with other settings than this experiment's (harvest.dtype: bf16 stored, f32 requested)" "$work/err"

# ---- a sweep's table has only points with the file's settings
sweep="--set name=points --set sae.activations=[small] --set evaluate.ce_recovered=false"
"$MICROW" sweep "$exp" $sweep --set "sweep={points: [{name: one, sae.k: 4}]}" >"$work/out" 2>&1
check "one point" grep -q "1 of 1 points are finished" "$work/out"
"$MICROW" sweep "$exp" $sweep --set "sweep={points: [{name: one, sae.k: 5}]}" --table >"$work/out" 2>&1
rm -r "$store/activations/points"
check "not of others" sh -c "grep -q '0 of 1 points are finished' $work/out && grep -q '1 points are left out' $work/out"

# ---- imports and exports
sums >"$work/sums"
check "export" "$MICROW" export --sae "$store/sae_models/mlp" --format saelens --out "$work/lens"
refuses 1 "holds an SAE already: give another folder, or pass --overwrite" "$MICROW" export --sae "$store/sae_models/small" --format saelens --out "$work/lens"
refuses 1 "holds an SAE in the format of saelens" "$MICROW" export --sae "$store/sae_models/small" --format sparsify --out "$work/lens"
refuses 1 "holds an SAE in the format of saelens" "$MICROW" export --sae "$store/sae_models/small" --format dictionary_learning --out "$work/lens" --overwrite
refuses 1 "holds an SAE in the format of microw" "$MICROW" export --sae "$store/sae_models/mlp" --format sparsify --out "$store/sae_models/small" --overwrite
check "nothing of an export that was refused" sh -c "! ls $work/lens | grep -q partial && test -s $work/lens/cfg.json"
check "export again" "$MICROW" export --sae "$store/sae_models/mlp" --format saelens --out "$work/lens" --overwrite
kept "exports"
refuses 1 "holds an SAE already" "$MICROW" import --from "$work/lens" --format saelens --out "$store/sae_models/small"
kept "an import"
check "import" "$MICROW" import --from "$work/lens" --format saelens --out "$store/sae_models/theirs"
check "evaluated at its site" sh -c "$MICROW evaluate $exp --set name=theirs --set sae.activations=small && grep -q '\"site\": \"2.mlp_out\"' $store/runs/theirs/evaluate.json"
check "as well as the original" test "$mlp" = "$(fvu theirs)"
cp -r "$store/sae_models/small" "$work/small"
check "import over a trained one, if told to" "$MICROW" import --from "$work/lens" --format saelens --out "$store/sae_models/small" --overwrite
check "and so is the record of its training" sh -c "! test -e $store/sae_models/small/training_history.json && ls $store/sae_models/small/training_history-*.json && ! $MICROW inspect $store/sae_models/small | grep trained"
check "its names are set aside" sh -c "! test -e $store/sae_models/small/names.csv && ls $store/sae_models/small/names-????????.csv"
refuses 1 "sae.safetensors was made with other settings" "$MICROW" run "$exp"
refuses 1 "discovery.h5 was made with other settings (.*SAE" "$MICROW" discover "$exp"
cp "$work/small/sae.safetensors" "$store/sae_models/small/"
refuses 1 "does not match the hash in its cfg.json" "$MICROW" evaluate "$exp"
cp "$work/small/cfg.json" "$store/sae_models/small/"
check "an SAE that is back has its names again" sh -c "$MICROW names $exp --export $work/back.csv && cmp $work/back.csv $work/small/names.csv"
cp "$work/small/"* "$store/sae_models/small/"
check "put back" sh -c "$MICROW run $exp | grep -c ': complete' | grep -q 5"

# ---- an experiment that uses the harvest of another
rm -r "$store/activations/cut"
check "reads the one of the same settings" "$MICROW" train "$exp" --set name=k6 --set sae.k=6
check "by any stage" "$MICROW" evaluate "$exp" --set name=k6 --set sae.k=6
check "a run too" sh -c "$MICROW run $exp --set name=k5 --set sae.k=5 | grep -q 'harvest: complete, .*/small/activations.h5 has the same settings and data'"
refuses 1 "run .microw harvest. first, or name another harvest with --set sae.activations=NAME; the store has: small" "$MICROW" train "$exp" --set name=f16 --set harvest.dtype=f16
cp -r "$store/activations/small" "$store/activations/twin"
refuses 1 "has 2 harvests with these settings (small, twin)" "$MICROW" train "$exp" --set name=k7 --set sae.k=7

# ---- paths are relative to the experiment file's folder, from any working directory
mkdir -p "$work/deep/data" "$work/deep/experiments" "$work/far"
cp "$work/corpus.txt" "$work/deep/data/"
cp -r "$SOURCE/configs/demo/model" "$work/deep/data/model"
small | sed "s#$SOURCE/configs/demo/#../data/#g; s#^store:.*#store: ../results#; /^discover/d; /^steer/d" >"$work/deep/experiments/exp.yaml"
(cd "$work/far" && "$MICROW" run ../deep/experiments/exp.yaml --set dataset.limit_documents=100) >"$work/out" 2>"$work/err" || { fail "relative paths"; cat "$work/err" >&2; }
check "results lie beside it" test -e "$work/deep/results/runs/small/evaluate.json"
check "by the same paths the same stage" sh -c "cd $work/deep/data && $MICROW run ../experiments/exp.yaml --set dataset.limit_documents=100 | grep -c ': complete' | grep -q 3"
check "what is effective has whole paths" grep -q "path: \[\"$work/deep/data/corpus.txt\"\]" "$work/deep/results/runs/small/config.yaml"
check "and is an experiment that works" sh -c "cd / && $MICROW run $work/deep/results/runs/small/config.yaml | grep -c ': complete' | grep -q 3"
(cd "$work/far" && "$MICROW" harvest ../deep/experiments/exp.yaml --set store=here --set dataset.limit_documents=100) >/dev/null 2>&1
check "--set begins at the working directory" test -e "$work/far/here/activations/small/activations.h5"
refuses 1 "$work/deep/experiments/nowhere" sh -c "cd $work/far && sed 's#../data/model#nowhere#' ../deep/experiments/exp.yaml >../deep/experiments/bad.yaml && $MICROW harvest ../deep/experiments/bad.yaml"
finish
