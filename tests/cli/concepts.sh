# Discovery, names from other programs, several steering variants, figures, the lab, the report.
. "$SOURCE/tests/cli/common.sh"
needs python3
small >"$work/exp.yaml"
mkdir "$work/data"
head -n 200 "$SOURCE/configs/demo/corpus.txt" >"$work/data/first.txt"
sed -n 201,400p "$SOURCE/configs/demo/corpus.txt" >"$work/data/second.txt"
sed -i "s|^dataset:.*|dataset: {path: [$work/data/first.txt, $work/data/second.txt], split: line, context: 64, batch: 16, pack: false}|" "$work/exp.yaml"
sed -i "/^steer/d" "$work/exp.yaml"
cat >>"$work/exp.yaml" <<END
steer:
  prompts: ["one morning the", "Anna"]
  concept: person
  samples: 4
  max_new_tokens: 12
  temperature: 0.7
  scales: [0.5, 2]
  variants:
    - {name: off, ablate: [3, 4], category: sea}
    - {name: held, clamp: {5: 2}}
  measure_tokens: 2000
  measure_path: $SOURCE/configs/demo/heldout.txt
END
for ranks in 1 3; do
    mpi $ranks "$MICROW" run "$work/exp.yaml" --set store="$work/s$ranks" >"$work/out$ranks" 2>"$work/err$ranks" ||
        { fail "run at $ranks ranks"; cat "$work/err$ranks" >&2; }
done
sae=sae_models/small
for f in $sae/discovery.h5 $sae/concepts.json $sae/names.csv runs/small/steer.json; do
    check "$f at 1 and 3 ranks" cmp "$work/s1/$f" "$work/s3/$f"
done
check "no leak" sh -c "! grep -q 'not freed' $work/err1"
for key in promoted suppressed alike together quantile_texts frequency_by_source category; do
    check "concepts.json has $key" grep -q "\"$key\"" "$work/s1/$sae/concepts.json"
done
check "both data files" grep -q '"sources": \["first.txt", "second.txt"\]' "$work/s1/$sae/concepts.json"
check "jansson reads it" python3 -c "import json; json.load(open('$work/s1/$sae/concepts.json'))"
for name in unchanged "person x 0.5" "person x 2" "person x 2, random" "off x 2" "held x 0.5"; do
    check "variant $name" grep -q "\"name\": \"$name\"" "$work/s1/runs/small/steer.json"
done
check "intervals" grep -q '"low"' "$work/s1/runs/small/steer.json"
check "prediction" grep -q '"kl"' "$work/s1/runs/small/steer.json"
# a scale of 0 changes nothing
"$MICROW" steer "$work/exp.yaml" --set store="$work/s1" --set 'steer.scales=[0]' --overwrite >/dev/null 2>&1
check "no change at scale 0" python3 -c "
import json
v = json.load(open('$work/s1/runs/small/steer.json'))['variants']
assert len(v) == 4 and all(x['texts'] == v[0]['texts'] and abs(x['predictions']['kl']) < 1e-6 for x in v), v"
# the control has the same changes, of other latents
"$MICROW" steer "$work/exp.yaml" --set store="$work/s1" --set 'steer.scales=[1]' --overwrite >/dev/null 2>&1
check "control" python3 -c "
import json
v = {x['name']: x['edits'] for x in json.load(open('$work/s1/runs/small/steer.json'))['variants']}
a, b = v['person'], v['person, random']
assert [(e['scale'], e['add']) for e in a] == [(e['scale'], e['add']) for e in b] and a
assert len({e['latent'] for e in a + b}) == 2 * len(a) and 'held, random' not in v"
"$MICROW" steer "$work/exp.yaml" --set store="$work/s1" --set 'steer.scales=[1]' --set steer.control=false --overwrite >/dev/null 2>&1
check "no control" sh -c "! grep -q 'random' $work/s1/runs/small/steer.json"
refuses 2 "off: latent 999: the SAE has 256 latents" "$MICROW" steer "$work/exp.yaml" --set store="$work/s1" \
    --set 'steer.variants=[{name: off, ablate: [999]}]'
refuses 2 "off: nothing to edit: expected edits, add, clamp, ablate or concept" "$MICROW" steer "$work/exp.yaml" --set store="$work/s1" \
    --set 'steer.variants=[{name: off}]'
refuses 2 "unknown key 'abblate'" "$MICROW" steer "$work/exp.yaml" --set store="$work/s1" \
    --set 'steer.variants=[{name: off, abblate: [1]}]'
refuses 2 "concept 'volcano': no latent has this name or category" "$MICROW" steer "$work/exp.yaml" --set store="$work/s1" \
    --set steer.concept=volcano

# names from a command
cat >"$work/name" <<END
#!/bin/sh
# name COMMAND [SETTINGS]
exec "$MICROW" name "$work/exp.yaml" --set store="$work/s1" --set "naming={command: '\$1', batch: 20\$2}"
END
cat >"$work/names" <<END
#!/bin/sh
exec "$MICROW" names "$work/exp.yaml" --set store="$work/s1" "\$@"
END
chmod +x "$work/name" "$work/names"
"$work/name" "python3 $SOURCE/tools/name_latents.py --words" ", limit: 60" >"$work/named" 2>"$work/err"
check "sixty names" grep -q "^name: 60 of 60 latents" "$work/named"
check "they were tested" grep -q "balanced accuracy of detection 0\.[5-9]" "$work/named"
check "by whom" grep -q '"words",0\.' "$work/s1/$sae/names.csv"
check "the rest keep theirs" grep -q '"tokens",' "$work/s1/$sae/names.csv"
check "concepts.json too" grep -q '"named_by": "words", "detection": ' "$work/s1/$sae/concepts.json"
check "again there is nothing to do" sh -c "$MICROW name $work/exp.yaml --set store=$work/s1 --set 'naming={command: exit 1, limit: 60}' | grep -q '0 of 0 latents'"
cp "$work/s1/$sae/names.csv" "$work/before.csv"
refuses 1 "ended with exit code 3" "$work/name" "exit 3"
refuses 1 "not valid JSON" "$work/name" "echo nothing"
refuses 1 "expected an object with a list" "$work/name" "echo {}"
refuses 1 "took too long" "$work/name" "sleep 60" ", timeout: 0.5"
refuses 1 "was ended by signal 9" "$work/name" 'kill -9 $$'
refuses 2 "naming.latents: 256: the SAE has 256 latents" "$work/name" true ", latents: [256]"
refuses 2 "'naming.command' is missing" "$MICROW" name "$work/exp.yaml" --set store="$work/s1" --set "naming={limit: 3}"
check "a failed request costs nothing" cmp "$work/before.csv" "$work/s1/$sae/names.csv"
check "at 3 ranks" mpi 3 "$MICROW" name "$work/exp.yaml" --set store="$work/s3" \
    --set "naming={command: 'python3 $SOURCE/tools/name_latents.py --words', limit: 60, batch: 20}"
check "the same names" cmp "$work/s1/$sae/names.csv" "$work/s3/$sae/names.csv"

# a server with chat completions, for tools/name_latents.py
cat >"$work/server.py" <<'END'
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        said = 'Sure: {"name": "a colour", "note": "perhaps"}' if "stands for" in prompt else str([True] * 200).lower()
        if "described as" in prompt:
            said = json.dumps([True] * sum(line[:1].isdigit() for line in prompt.split("\n")))
        body = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
END
python3 "$work/server.py" >"$work/port" 2>/dev/null &
server=$!
while [ ! -s "$work/port" ]; do sleep 0.1; done
"$work/name" "python3 $SOURCE/tools/name_latents.py --url http://127.0.0.1:$(cat "$work/port") --model tiny" ", latents: [5], again: true" >"$work/named" 2>"$work/err"
kill $server
check "a model's name" grep -q '^5,"a colour","perhaps","tiny"' "$work/s1/$sae/names.csv"

# import and export of names
check "out" "$work/names" --export "$work/out.json" --format neuronpedia
check "what Neuronpedia has" grep -q '"layer": "1.resid_post", "index": "5", "description": "a colour"' "$work/out.json"
printf 'latent,name,note\n7,seven,"a, note"\n' >"$work/in.csv"
check "in" "$work/names" --import "$work/in.csv"
check "kept" grep -q '^7,"seven","a, note","in.csv"' "$work/s1/$sae/names.csv"
check "others stay" grep -q '^5,"a colour"' "$work/s1/$sae/names.csv"
check "a discovery made again keeps given names" sh -c "$MICROW discover $work/exp.yaml --set store=$work/s1 2>/dev/null | grep -q . && grep -q '^7,\"seven\"' $work/s1/$sae/names.csv"
check "steered by name" "$MICROW" steer "$work/exp.yaml" --set store="$work/s1" --set steer.concept=seven --overwrite
refuses 2 "needs --import FILE or --export FILE" "$work/names"
refuses 2 "expected csv, json or neuronpedia" "$work/names" --export x --format xml
printf '7,seven\n999,far\n' >"$work/in.csv"
refuses 1 "in.csv:2: expected a latent from 0 to 255" "$work/names" --import "$work/in.csv"

# figures
check "figures" "$MICROW" plot "$work/exp.yaml" --set store="$work/s1" --latents 7 --out "$work/figures"
for f in training frequencies positions steering latent-7; do
    check "$f" test -s "$work/figures/$f.gp"
    ! command -v gnuplot >/dev/null || check "$f.svg" grep -q "</svg>" "$work/figures/$f.svg"
done
refuses 2 "latent 256: the SAE has 256 latents" "$MICROW" plot "$work/exp.yaml" --set store="$work/s1" --latents 256
refuses 1 "nothing to draw yet" "$MICROW" plot "$work/exp.yaml" --set store="$work/s1" --set name=none

# the lab
printf 'Anna\n:add 5=3\nAnna\n:top 2\n:find seven\n:texts 7\n:bogus\n:add 900=1\n:name 8 eight, of course\n:clear\n:quit\nno more\n' |
    "$MICROW" lab "$work/exp.yaml" --set store="$work/s1" >"$work/talk" 2>"$work/err" || fail "lab"
check "both are written" sh -c "grep -q '^unchanged: ' $work/talk && grep -q '^steered: ' $work/talk"
check "what is wrong is told" sh -c "grep -q \"unknown command ':bogus'\" $work/err && grep -q \"'900': expected a latent\" $work/err"
check "named" grep -q '^8,"eight, of course","","lab"' "$work/s1/$sae/names.csv"
check "it ends when told" sh -c "! grep -q 'no more' $work/talk"
check "no leak in the lab" sh -c "! grep -q 'not freed' $work/err"
refuses 2 "one rank, not 2" "$MPIRUN" --oversubscribe -np 2 "$MICROW" lab "$work/exp.yaml" --set store="$work/s1"

for f in discovery.h5 names.csv; do check "inspect $f" "$MICROW" inspect "$work/s1/$sae/$f"; done
check "what a discovery holds" sh -c "$MICROW inspect $work/s1/$sae/discovery.h5 | grep -q '5 strongest texts and 15 at random'"

# the report, also with fewer results
check "page" sh -c "$MICROW report $work/exp.yaml --set store=$work/s1 | grep -q 'report: .*report.html'"
check "beside the page" sh -c "$MICROW report $work/exp.yaml --set store=$work/s1 --set report.embed_mb=0 | grep -q '4 files of latents beside it'"
check "they are there" test -s "$work/s1/runs/small/report_data/3.js"
check "and gone again" sh -c "$MICROW report $work/exp.yaml --set store=$work/s1 && ! test -e $work/s1/runs/small/report_data"
"$MICROW" train "$work/exp.yaml" --set store="$work/s1" --set sae.k=9 --overwrite >/dev/null 2>&1
"$MICROW" report "$work/exp.yaml" --set store="$work/s1" >"$work/out" 2>"$work/err"
check "of another SAE" grep -q "belongs to an earlier SAE and is left out" "$work/err"
refuses 1 "belongs to an earlier SAE" "$MICROW" steer "$work/exp.yaml" --set store="$work/s1"
printf 'not HDF5' >"$work/s3/$sae/discovery.h5"
refuses 1 "discovery.h5: cannot be opened as HDF5" "$MICROW" report "$work/exp.yaml" --set store="$work/s3"
refuses 1 "nothing to report yet" "$MICROW" report "$work/exp.yaml" --set store="$work/s1" --set name=none
finish
