# Stores and their readers: files of an earlier version, files that another process holds or replaces, documents of
# rows, texts whose tokens are parts of characters, and hooks that would end a pass before a stored site.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
h5="$work/store/activations/small/activations.h5"
sae="$work/store/sae_models/small"
short="--set discover.neighbours=0 --set discover.logit_tokens=0"

# a stop before a stored site is refused before work begins; one after it is not
for at in 0.resid_post 1.resid_post 2.mlp_out; do
    refuses 2 "exp.yaml: hooks.list: kind stop on $at ends each pass before harvest site" "$MICROW" harvest "$work/exp.yaml" --set "hooks.list=[{site: $at, kind: stop}]"
done
check "nothing was written" test ! -e "$h5.partial"
refuses 2 "before kind statistics on 3.mlp_out is reached" "$MICROW" harvest "$work/exp.yaml" --set "hooks.list=[{site: 3.mlp_out, kind: stop}, {site: 3.mlp_out, kind: statistics}]"
for ranks in 1 3; do
    mpi $ranks "$MICROW" harvest "$work/exp.yaml" --set name=stopped$ranks --set "hooks.list=[{site: 2.mlp_out, kind: statistics}, {site: 2.resid_post, kind: stop}]" >/dev/null 2>"$work/err" || { fail "a stop behind what is stored"; cat "$work/err" >&2; }
done
check "at any number of ranks" cmp "$work/store/activations/stopped1/activations.h5" "$work/store/activations/stopped3/activations.h5"

# more data files than fit into one attribute of HDF5
mkdir "$work/many"
number=0
while [ $number -lt 1200 ]; do
    number=$((number + 1))
    echo "one morning the owl was proud ." >"$work/many/a_text_file_with_a_rather_long_n\303\244me_$number.txt"
done
many="--set name=many --set dataset.path=$work/many/*.txt --set dataset.split=file --set dataset.limit_documents=0"
for ranks in 1 2; do
    mpi $ranks "$MICROW" harvest "$work/exp.yaml" $many --set name=many$ranks >/dev/null 2>"$work/err" || { fail "harvest of 1200 files at $ranks"; cat "$work/err" >&2; }
done
check "1200 files at any number of ranks" cmp "$work/store/activations/many1/activations.h5" "$work/store/activations/many2/activations.h5"
"$MICROW" inspect "$work/store/activations/many1" >"$work/out" 2>&1 || fail "inspect of 1200 files"
check "each file is named" [ "$(grep -c 'a_text_file_with' "$work/out")" = 1200 ]
"$MICROW" harvest "$work/exp.yaml" $many --set name=many1 >"$work/out" 2>&1 || fail "and again"
check "they are known again" grep -q "complete" "$work/out"

# packed: several documents in a sequence
packed="--set dataset.pack=true --set dataset.limit_documents=300"
"$MICROW" harvest "$work/exp.yaml" $packed >/dev/null 2>"$work/err" || { fail "harvest"; cat "$work/err" >&2; }
"$MICROW" train "$work/exp.yaml" $packed >/dev/null 2>&1 || fail "train"
for ranks in 1 2; do
    mpi $ranks "$MICROW" discover "$work/exp.yaml" $packed $short >/dev/null 2>"$work/err" || { fail "discover at $ranks"; cat "$work/err" >&2; }
    cp "$sae/concepts.json" "$work/concepts$ranks.json"
    cp "$sae/discovery.h5" "$work/discovery$ranks.h5"
done
check "the same concepts at 2 ranks" cmp "$work/concepts1.json" "$work/concepts2.json"
check "the same discovery at 2 ranks" cmp "$work/discovery1.h5" "$work/discovery2.h5"
cat >"$work/documents.py" <<'END'
# Every top text is in the line of the corpus that it is attributed to, unchanged and complete, once per line.
import json, sys
lines = [l for l in open(sys.argv[1]).read().split("\n") if l.strip()]
texts = [(l["latent"], t) for l in json.load(open(sys.argv[2]))["latents"] for t in l["top_texts"]]
wrong = sum((t["before"] + t["token"] + t["after"]).replace("<|endoftext|>", "").strip() not in lines[t["document"]] for _, t in texts)
several = len(texts) - len({(n, t["document"], t["row"] - t["position"]) for n, t in texts})
print(len(texts), "texts,", wrong, "of another document,", len({t["document"] for _, t in texts}), "documents")
sys.exit(wrong != 0 or several != 0 or len(texts) < 100 or len({t["document"] for _, t in texts}) < 100)
END
if python3 -c "" 2>/dev/null; then
    python3 "$work/documents.py" "$SOURCE/configs/demo/corpus.txt" "$work/concepts1.json" >"$work/out" 2>&1 || { fail "texts are of the documents they name"; cat "$work/out" >&2; }
    checks=$((checks + 1))
fi

# an earlier schema is read, with a note; a later one is not
cp "$h5" "$work/kept.h5"
"$SET_SCHEMA" "$h5" 1 || fail "set_schema"
"$MICROW" discover "$work/exp.yaml" $packed $short --overwrite >/dev/null 2>"$work/err" || { fail "discover on schema 1"; cat "$work/err" >&2; }
check "one note" test "$(grep -c 'store schema 1' "$work/err")" = 1
check "documents are those of sequences" sh -c "! cmp -s $work/concepts1.json $sae/concepts.json"
check "it is complete" "$MICROW" harvest "$work/exp.yaml" $packed
check "it is inspected" "$MICROW" inspect "$h5"
"$MICROW" harvest "$work/exp.yaml" $packed --overwrite >/dev/null 2>"$work/err" || { fail "harvest of schema 1 again"; cat "$work/err" >&2; }
check "it is made again" grep -q "of an earlier version: harvesting again" "$work/err"
check "as it would be anew" cmp "$work/kept.h5" "$h5"
"$SET_SCHEMA" "$h5" 3
refuses 1 "store schema 3; this microw reads schemas 1 to 2" "$MICROW" train "$work/exp.yaml" $packed --set name=t --set sae.activations=small
cp "$work/kept.h5" "$h5"

# texts in requests to a naming command are of one document too, with the latent active or silent
if python3 -c "" 2>/dev/null; then
    refuses 1 "the documents have other content" "$MICROW" discover "$work/exp.yaml" $packed $short
    check "discover again" "$MICROW" discover "$work/exp.yaml" $packed $short --overwrite
    "$MICROW" name "$work/exp.yaml" $packed --set "naming={command: 'tee -a $work/asked | python3 $SOURCE/tools/name_latents.py --words', limit: 40}" >/dev/null 2>"$work/err" || { fail "name"; cat "$work/err" >&2; }
    cat >"$work/asked.py" <<'END'
import json, sys
lines = [l for l in open(sys.argv[1]).read().split("\n") if l.strip()]
text, at, asked = open(sys.argv[2]).read(), 0, []
while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    value, at = json.JSONDecoder().raw_decode(text, at)
    if value["task"] == "detect": asked += [t for latent in value["latents"] for t in latent["texts"]]
wrong = [t for t in asked if not any(t.replace("<|endoftext|>", "").strip() in line for line in lines)]
print(len(asked), "texts,", len(wrong), "of several documents", wrong[:3])
sys.exit(len(asked) < 100 or len(wrong) != 0)
END
    python3 "$work/asked.py" "$SOURCE/configs/demo/corpus.txt" "$work/asked" >"$work/out" 2>&1 || { fail "texts of detection are of one document"; cat "$work/out" >&2; }
    checks=$((checks + 1))
fi

# held by another process: every reader says so, and does not treat it as damaged
for command in "train --set name=other --set sae.activations=small" "harvest $packed" "harvest $packed --overwrite"; do
    set -- $command
    stage=$1
    shift
    rm -f "$work/store/runs/small/manifest.json" # which marks it complete
    refuses 1 "another process has it open and holds HDF5's lock on it; the file is likely whole" "$HOLD" "$h5" "$MICROW" "$stage" "$work/exp.yaml" "$@"
done
refuses 1 "holds HDF5's lock" "$HOLD" "$h5" "$MICROW" inspect "$h5"
refuses 1 "holds HDF5's lock" "$HOLD" "$sae/discovery.h5" "$MICROW" report "$work/exp.yaml"
check "it is as it was" cmp "$work/kept.h5" "$h5"
check "two may read" env HDF5_USE_FILE_LOCKING=TRUE "$MICROW" discover "$work/exp.yaml" $packed $short
check "HDF5 can be told not to look" "$HOLD" "$h5" env HDF5_USE_FILE_LOCKING=FALSE "$MICROW" discover "$work/exp.yaml" $packed $short

# tokens that are parts of characters
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    printf 'the cafe\314\201 has \342\234\223 %d \342\202\254 and \360\237\230\200 for \346\227\245\346\234\254 .\n\342\234\224 is not \342\234\223 , \360\237\230\201 !\n' $i
done >"$work/signs.txt"
bytes="--set name=bytes --set dataset.path=$work/signs.txt --set sae.n_latents=64 --set sae.k=4 --set train.tokens=20_000 --set train.batch=64 --set train.init_rows=100 --set discover.categories= --set discover.show=20"
for stage in harvest train discover; do
    "$MICROW" $stage "$work/exp.yaml" $bytes >"$work/out" 2>"$work/err" || { fail "$stage of signs"; cat "$work/err" >&2; }
done
found="$work/store/sae_models/bytes"
replaced=$(printf '\357\277\275')
check "characters are whole" grep -q "$(printf '\342\234\223')" "$found/concepts.json"
check "lone bytes are shown as such" grep -q '"name": "[^"]*<0x[0-9A-F][0-9A-F]>' "$found/concepts.json"
check "and have their ids" grep -q '"token_id": [0-9]' "$found/concepts.json"
for file in "$found/concepts.json" "$found/names.csv" "$work/out"; do
    check "nothing is replaced in $(basename "$file")" sh -c "! grep -q '$replaced\\|ufffd' $file"
done
finish
