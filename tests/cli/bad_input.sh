# Errors of users: each gives one clear message and the right exit code, and no hang, on one rank and on three.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
run="$MICROW run $work/exp.yaml"
m="$work/model"

refuses 2 "did you mean 'harvest'" "$MICROW" harvst "$work/exp.yaml"
refuses 2 "needs one experiment file" "$MICROW" run
refuses 2 "did you mean '--set'" "$MICROW" run "$work/exp.yaml" --sett a=b
refuses 2 "cannot read" "$MICROW" run "$work/none.yaml"
refuses 2 "unknown key 'contxt' in 'dataset'; did you mean 'context'" $run --set dataset.contxt=3
refuses 2 "sae.k = 300 is larger than sae.n_latents = 256" $run --set sae.k=300
refuses 2 "expected whole number from 1" $run --set sae.k=-1
refuses 2 "expected one of topk, batch_topk" $run --set sae.variant=topk2
refuses 2 "sae.groups sum to 6: expected the 256 latents" $run --set sae.variant=matryoshka_topk --set "sae.groups=[3, 3]"
refuses 2 "this variant has no penalty" $run --set train.sparsity=3
refuses 2 "expected number from 1e-12" $run --set sae.variant=jump_relu --set train.threshold_init=0
refuses 2 "only a transcoder" $run --set sae.skip=true
refuses 1 "is not in the Hugging Face cache" $run --set model.path=no-such-model
refuses 1 "no such file" $run --set "dataset.path=$work/none.txt"
refuses 1 "not a text file" $run --set "dataset.path=$SOURCE/configs/demo/model/model.safetensors" --set dataset.format=text
refuses 2 "site 9.resid_post is not in this model" $run --set "harvest.sites=[9.resid_post]"
refuses 2 "did you mean 'resid_post'" $run --set "harvest.sites=[1.resid_pots]"
refuses 2 "the model takes 64: lower dataset.context" $run --set dataset.context=65 --set dataset.pack=true
refuses 1 "device 'tpu' is not in this build" $run --set model.device=tpu
refuses 1 "run \`microw harvest\` first" "$MICROW" train "$work/exp.yaml" --set store="$work/empty"
refuses 1 "run \`microw train\` first" "$MICROW" discover "$work/exp.yaml" --set store="$work/empty"
refuses 2 "section 'evaluate' is missing" "$MICROW" evaluate "$SOURCE/tests/cli/minimal.yaml"
refuses 2 "needs --model and --prompt" "$MICROW" generate --model x
refuses 2 "expected a whole number" "$MICROW" generate --model "$SOURCE/configs/demo/model" --prompt a --max-new-tokens many
refuses 1 "cannot read" "$MICROW" export --sae "$work/none" --format saelens --out "$work/x"

# models
cp -r "$SOURCE/configs/demo/model" "$m"
chmod -R u+w "$m"
truncate -s 100000 "$m/model.safetensors"
refuses 1 "spans bytes" $run --set model.path="$m"
cp "$SOURCE/configs/demo/model/model.safetensors" "$m/"
sed 's/"n_embd": 128/"n_embd": 64/' "$SOURCE/configs/demo/model/config.json" >"$m/config.json"
refuses 1 "expected shape" $run --set model.path="$m"
sed 's/"model_type": "gpt2"/"model_type": "rwkv"/' "$SOURCE/configs/demo/model/config.json" >"$m/config.json"
refuses 1 "model_type 'rwkv' is not supported; supported: gpt2" $run --set model.path="$m"
cp "$SOURCE/configs/demo/model/config.json" "$m/"
cp "$SOURCE/tests/golden/tokenizers/gpt2.json" "$m/tokenizer.json"
sed -i 's/"e":69,/"e":1200,/' "$m/tokenizer.json"
refuses 2 "do not belong together" $run --set model.path="$m"
rm "$m/tokenizer.json"
refuses 1 "neither tokenizer.json, nor vocab.json" $run --set model.path="$m"

# stores
mkdir "$work/file" && : >"$work/file/store"
refuses 1 "cannot create directory" $run --set store="$work/file/store"
if [ "$(id -u)" != 0 ]; then
    mkdir "$work/locked" && chmod 500 "$work/locked"
    refuses 1 "ermission denied" $run --set store="$work/locked/store"
fi
"$MICROW" harvest "$work/exp.yaml" >/dev/null 2>&1 || fail "harvest"
h5="$work/store/activations/small/activations.h5"
cp "$h5" "$work/kept.h5"
truncate -s -40000 "$h5"
refuses 1 "$h5" "$MICROW" train "$work/exp.yaml"
head -c 5000 /dev/urandom >"$h5"
refuses 1 "cannot be opened as HDF5" "$MICROW" train "$work/exp.yaml"
cp "$work/kept.h5" "$h5"
printf 'corrupt' | dd of="$h5" bs=1 seek=$(($(stat -c %s "$h5") / 2)) conv=notrunc 2>/dev/null
refuses 1 "checksum does not match" "$MICROW" inspect "$h5"
cp "$work/kept.h5" "$h5"
"$SET_SCHEMA" "$h5" 99 || fail "set_schema"
refuses 1 "store schema 99; this microw reads schemas 1 to 2" "$MICROW" train "$work/exp.yaml"
cp "$work/kept.h5" "$h5"
refuses 2 "was not harvested; it holds: 1.resid_post, 2.mlp_out" "$MICROW" train "$work/exp.yaml" --set sae.site=0.resid_post
refuses 2 "sae.site: 0.resid_post is not among harvest.sites" $run --set sae.site=0.resid_post
refuses 2 "sae.sites: 3.mlp_out is not among harvest.sites" $run --set "sae.sites=[1.resid_post, 3.mlp_out]"
refuses 2 "sae.target: 0.mlp_out is not among harvest.sites" $run --set sae.target=0.mlp_out

# several ranks print one message, and all end
for what in "--set sae.k=300" "--set model.path=no-such-model" "--set harvest.sites=[9.resid_post]" "--set dataset.path=$work/none.txt"; do
    checks=$((checks + 1))
    mpi 3 $run --set store="$work/other" $what >"$work/out" 2>"$work/err" && fail "3 ranks went on with $what"
    [ "$(grep -c 'microw: error' "$work/err")" = 1 ] || { fail "not one message from 3 ranks with $what"; cat "$work/err" >&2; }
done
finish
