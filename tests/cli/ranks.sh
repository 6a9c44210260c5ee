# Ranks that were started differently, or see different files: the message names the first difference and its rank, all
# end with exit code 2, none hangs.
. "$SOURCE/tests/cli/common.sh"
demo="$SOURCE/configs/demo"
here="$work/here"
there="$work/there"

# Two folders with the same experiment, each with its own copies of the files
for folder in here there; do
    mkdir -p "$work/$folder"
    cp -r "$demo/model" "$work/$folder/model"
    chmod -R u+w "$work/$folder/model"
    head -n 300 "$demo/corpus.txt" >"$work/$folder/corpus.txt"
    small | sed "s#$demo/#./#g; s#^store:.*#store: $work/store#; /^discover/d; /^steer/d; s/concept: person, //" >"$work/$folder/exp.yaml"
done

# differs TEXT COMMAND...: the second of two ranks is started with COMMAND, in the other folder
differs() {
    checks=$((checks + 1))
    text=$1
    shift
    (cd "$here" && timeout 60 "$MPIRUN" --oversubscribe -np 1 "$MICROW" $first : -np 1 --wdir "$there" "$@") >"$work/out" 2>"$work/err"
    got=$?
    [ $got = 2 ] || fail "exit code $got, expected 2: $text"
    grep -q "microw: error: rank 1: ranks differ in $text" "$work/err" || { fail "not told: $text"; sed 's/^/    /' "$work/err" >&2; }
    [ "$(grep -c 'microw: error' "$work/err")" = 1 ] || { fail "not one message: $text"; cat "$work/err" >&2; }
    ! grep -q "not freed" "$work/err" || fail "memory was not freed: $text"
}
turn() { printf '\001' | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null; }

first="harvest exp.yaml"
differs "the command: here 'train exp.yaml', on rank 0 'harvest exp.yaml'" "$MICROW" train exp.yaml
differs "the command: here 'harvest exp.yaml --set dataset.batch=8'" "$MICROW" harvest exp.yaml --set dataset.batch=8
sed -i 's/batch: 16/batch: 8/' "$there/exp.yaml"
differs "the settings: here '  batch: 8', on rank 0 '  batch: 16'" "$MICROW" harvest exp.yaml
sed 's/n_latents: 256, k: 8/n_latents: 256, k: 9/' "$here/exp.yaml" >"$there/exp.yaml"
differs "the settings: here '  k: 9', on rank 0 '  k: 8'" "$MICROW" harvest exp.yaml
sed 's/lr: 2e-3/lr: 2e-3, order: 5/; s/k: 8/k: 8, seed: 4/' "$here/exp.yaml" >"$there/exp.yaml"
differs "the settings: here '  seed: 4', on rank 0 '  seed: 0'" "$MICROW" harvest exp.yaml
cp "$here/exp.yaml" "$there/exp.yaml"

turn "$there/model/model.safetensors" 200000
differs "the model's files" "$MICROW" harvest exp.yaml
cp "$here/model/model.safetensors" "$there/model/"
sed -i 's/"layer_norm_epsilon": [^,]*,/"layer_norm_epsilon": 0.02,/' "$there/model/config.json"
differs "the model's files" "$MICROW" harvest exp.yaml
cp "$here/model/config.json" "$there/model/"
sed -i 's/ Hugo"/ Hxgo"/' "$there/model/tokenizer.json"
sed -i '$s/$/ /' "$there/model/tokenizer.json"
differs "the tokenizer's files" "$MICROW" harvest exp.yaml
cp "$here/model/tokenizer.json" "$there/model/"
echo "one more story ." >>"$there/corpus.txt"
differs "the dataset's files: here .*corpus.txt, [0-9]* bytes" "$MICROW" harvest exp.yaml
sed 's/ Hugo/ Leo /' "$here/corpus.txt" | head -c "$(wc -c <"$here/corpus.txt")" >"$there/corpus.txt"
differs "the dataset's files: here .*corpus.txt" "$MICROW" harvest exp.yaml
cp "$here/corpus.txt" "$there/corpus.txt"
for folder in here there; do sed -i "s#^store:.*#store: results#" "$work/$folder/exp.yaml"; done
differs "the store: on this rank $there/results, on host .*, is not the folder of rank 0, on host " "$MICROW" harvest exp.yaml

# files that are read later
(cd "$here" && "$MICROW" run exp.yaml && cp -r results "$there/") >"$work/out" 2>&1 || { fail "run"; cat "$work/out" >&2; }
(cd "$there" && rm -r results/activations && "$MICROW" harvest exp.yaml --overwrite --set dataset.limit_documents=200) >/dev/null 2>&1
first="train exp.yaml"
differs "the activations: here '[0-9]* rows, fingerprint" "$MICROW" train exp.yaml
rm -r "$there/results"
cp -r "$here/results" "$there/"
(cd "$there" && "$MICROW" train exp.yaml --overwrite --set sae.seed=3) >/dev/null 2>&1 || fail "another SAE"
first="evaluate exp.yaml --overwrite"
differs "the SAE (a hash of its weights)" "$MICROW" evaluate exp.yaml --overwrite

# folders may differ if the files are the same
sed -i "s#^store:.*#store: $work/store#" "$here/exp.yaml" "$there/exp.yaml"
(cd "$here" && timeout 100 "$MPIRUN" --oversubscribe -np 1 "$MICROW" run exp.yaml : -np 1 --wdir "$there" "$MICROW" run exp.yaml) >"$work/out" 2>"$work/err" ||
    { fail "ranks that are the same"; cat "$work/err" >&2; }
check "they made it" test -e "$work/store/runs/small/evaluate.json"

# threads that OpenMP announces and does not give
wide="--set sae.n_latents=1024 --set train.batch=2048 --set train.tokens=8192"
for limit in 2 1; do
    (cd "$here" && OMP_NUM_THREADS=2 OMP_THREAD_LIMIT=$limit "$MICROW" train exp.yaml $wide --set name=limit$limit --set sae.activations=small) >"$work/out" 2>&1 || { fail "at most $limit threads"; cat "$work/out" >&2; }
done
check "the same SAE" cmp "$work/store/sae_models/limit2/sae.safetensors" "$work/store/sae_models/limit1/sae.safetensors"
finish
