# Input files: every format of a dataset, errors with their place in the file, and the same result on any number of
# ranks.
. "$SOURCE/tests/cli/common.sh"
needs python3
small >"$work/exp.yaml"
model="$SOURCE/configs/demo/model"
cd "$work" || exit 1

# run_on FILE MORE...: harvests a dataset, its rows in $work/FILE.h5
harvest="$MICROW harvest $work/exp.yaml --set harvest.sites=[1.resid_post] --set dataset.limit_documents=0 --set dataset.split=file"
run_on() {
    checks=$((checks + 1))
    file=$1
    shift
    rm -rf "$work/store"
    timeout 60 $harvest --set "dataset.path=[\"$file\"]" "$@" >"$work/out" 2>"$work/err" || { fail "harvest of $file"; cat "$work/err" >&2; }
    cp "$work/store/activations/small/activations.h5" "$work/rows.h5" 2>/dev/null
}

ids() { # the ids of the last harvest
    h5dump -d tokens/ids "$work/rows.h5" 2>/dev/null | sed -n 's/^ *([0-9]*): //p' | tr -d '\n '
}

same() { # same FILE TEXT-FILE MORE...: expects the same tokens from both files
    a=$1
    b=$2
    shift 2
    run_on "$b"
    expected=$(ids)
    run_on "$a" "$@"
    [ -n "$expected" ] && [ "$(ids)" = "$expected" ] || fail "$a has other tokens than $b"
}

# the same two documents in every format
printf '{"text": "the owl was proud"}\n{"text": "Leo, \\"the\\"\\nfox"}\n' >two.jsonl
cp two.jsonl two.NDJSON
cp two.jsonl lines.json
cp two.jsonl other.data
printf '["the owl was proud", {"text": "Leo, \\"the\\"\\nfox"}]' >array.json
printf '\357\273\277id,text\r\n1,the owl was proud\r\n2,"Leo, ""the""\nfox"\r\n' >two.csv
printf 'text\tid\nthe owl was proud\t1\n"Leo, ""the""\nfox"\t2\n' >two.tsv
for file in two.NDJSON lines.json array.json two.csv two.tsv; do same $file two.jsonl; done
same other.data two.jsonl --set dataset.format=jsonl
for plain in two.csv two.jsonl; do
    gzip -k $plain && same $plain.gz two.jsonl
    if command -v zstd >/dev/null; then zstd -qk $plain && same $plain.zst two.jsonl; fi
done
cp two.jsonl 'two[1].jsonl'
same 'two[1].jsonl' two.jsonl

# what is refused
refuses 2 "other.data: unknown file name extension; expected .txt, .text, .jsonl" $harvest --set dataset.path=other.data
: >x.parquet
refuses 2 "tools/import_hf_dataset.py" $harvest --set dataset.path=x.parquet
refuses 2 "no column 'body' (dataset.text_field); columns: id, text" $harvest --set dataset.path=two.csv --set dataset.text_field=body
head -c 40 two.csv.gz >cut.csv.gz
refuses 1 "cut.csv.gz: truncated gzip stream" $harvest --set dataset.path=cut.csv.gz
printf 'text\nx\n"y\nz\n' >open.csv
refuses 1 "open.csv:3: the quote that opens here is never closed" $harvest --set dataset.path=open.csv
printf '{"text": "a"}\n{"id": 1, "body": "b"}\n' >missing.jsonl
refuses 1 "missing.jsonl:2: expected a text in field 'text', found nothing; fields: id, body" $harvest --set dataset.path=missing.jsonl

# pipes and devices are refused at once wherever a file is expected
mkfifo pipe.jsonl
refuses 1 "not a regular file" $harvest --set dataset.path=pipe.jsonl
refuses 1 "not a regular file" $harvest --set dataset.path=/dev/zero --set dataset.format=text
mkfifo pipe.yaml
refuses 2 "not a regular file" "$MICROW" run pipe.yaml
refuses 2 "not a regular file" sh -c "cat exp.yaml | $MICROW run /dev/stdin"
for file in config.json model.safetensors tokenizer.json tokenizer_config.json; do
    rm -rf m && cp -r "$model" m && chmod -R u+w m && rm -f m/$file && mkfifo m/$file
    refuses 1 "$(case $file in model*) echo 'neither model.safetensors' ;; tokenizer.json) echo 'neither tokenizer.json' ;; *) echo 'not a regular file' ;; esac)" \
        $harvest --set dataset.path=two.jsonl --set model.path=m
done

# one YAML document
(cat exp.yaml && printf -- '---\nname: other\n') >documents.yaml
refuses 2 "documents.yaml:$(($(wc -l <exp.yaml) + 1)): a second YAML document" "$MICROW" run documents.yaml

# the model: values of wrong types, and fewer layers than there are weights for
edited() { # edited SED: a copy of the model with another config.json
    rm -rf m && cp -r "$model" m && chmod -R u+w m && sed -i "$1" m/config.json
}
edited 's/"layer_norm_epsilon": [^,]*/"layer_norm_epsilon": "1e-3"/'
refuses 1 "config.json: 'layer_norm_epsilon': expected a finite number, found the text '1e-3'" $harvest --set dataset.path=two.jsonl --set model.path=m
edited 's/"n_layer": 4/"n_layer": 3/'
refuses 1 "config.json has 3 layers, but the file has a weight 'transformer.h.3" $harvest --set dataset.path=two.jsonl --set model.path=m
edited 's/{/{"note": 1e999, "id": 123456789012345678901234567890, "note": NaN,/'
run_on two.jsonl --set model.path=m

# records without text are counted once, and rows do not depend on the number of ranks
python3 - <<'END'
import json
with open("mixed.jsonl", "w") as out:
    for i in range(9001):
        kind = i % 7
        record = {"id": i, "text": f"Leo saw {i} owls"} if kind else {"id": i} if i % 2 else {"text": None, "id": float("nan")}
        out.write(json.dumps(record) + "\n")
    out.write('{"text": "the \\ud83d fox"}\n')
END
for ranks in 1 3; do
    checks=$((checks + 1))
    mpi $ranks $harvest --set store="$work/r$ranks" --set dataset.path=mixed.jsonl --set dataset.on_missing=skip >"$work/out" 2>"$work/err" || fail "$ranks ranks"
    grep -q "dataset: skipped records without a text in field 'text': 1286" "$work/err" || { fail "count at $ranks ranks"; cat "$work/err" >&2; }
    [ "$(grep -c 'skipped records' "$work/err")" = 1 ] || fail "not one message at $ranks ranks"
    grep -q "unpaired surrogates, each read as U+FFFD: 1$" "$work/err" || fail "surrogates at $ranks ranks"
done
check "the same rows at 1 and 3 ranks" h5diff "$work/r1/activations/small/activations.h5" "$work/r3/activations/small/activations.h5" /tokens/ids
# three ranks find an error each: the first is reported
refuses 1 "mixed.jsonl:1: expected a text" "$MPIRUN" --oversubscribe -np 3 $harvest --set store="$work/r" --set dataset.path=mixed.jsonl
[ "$(grep -c 'microw: error' "$work/err")" = 1 ] || { fail "not one message of three ranks"; cat "$work/err" >&2; }

# ranks that see different files: one error, on all of them
mkdir a b && head -n 700 mixed.jsonl >a/d.jsonl && head -n 650 mixed.jsonl >b/d.jsonl
cat >in.sh <<'END'
cd "$1" && shift && exec "$@"
END
checks=$((checks + 1))
timeout 60 "$MPIRUN" --oversubscribe -np 1 sh in.sh a $harvest --set store="$work/o" --set dataset.path=d.jsonl --set dataset.on_missing=skip : \
    -np 1 sh in.sh b $harvest --set store="$work/o" --set dataset.path=d.jsonl --set dataset.on_missing=skip >"$work/out" 2>"$work/err" && fail "ranks with other files went on"
grep -q "rank 1: ranks differ in the dataset's files: here 'd.jsonl, [0-9]* bytes" "$work/err" || { fail "other files"; cat "$work/err" >&2; }

# parquet, by the tool, if its library is installed
if python3 -c 'import datasets, pyarrow' 2>/dev/null; then
    python3 -c 'import pyarrow as a, pyarrow.parquet as p; p.write_table(a.table({"text": ["the owl was proud", None, "Leo, \"the\"\nfox"]}), "two.parquet")'
    check "import_hf_dataset.py" env HF_HOME="$work/hf" python3 "$SOURCE/tools/import_hf_dataset.py" two.parquet --out imported
    same imported-00000.jsonl two.jsonl
else
    echo "import_hf_dataset.py: not tried without the library 'datasets'"
fi
finish
