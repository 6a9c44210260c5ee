# The command line: help for every verb without MPI; one clear message and exit code 2 for each error.
. "$SOURCE/tests/cli/common.sh"
small >"$work/exp.yaml"
model="$SOURCE/configs/demo/model"
verbs="run harvest train discover name evaluate steer report sweep names plot lab serve plan generate layers inspect export import config doctor"
said() { # said TEXT COMMAND...: expects exit code 0, TEXT on stdout, nothing on stderr
    checks=$((checks + 1))
    text=$1
    shift
    "$@" >"$work/out" 2>"$work/err" || fail "exit code $?: $*"
    grep -q -e "$text" "$work/out" || { fail "no '$text' from: $*"; head -5 "$work/out" >&2; }
    [ ! -s "$work/err" ] || { fail "stderr of: $*"; cat "$work/err" >&2; }
}

said "usage: microw VERB" "$MICROW" --help
for verb in $verbs; do
    check "$verb is in the usage" grep -q "^  $verb " "$work/out"
done
said "usage: microw VERB" "$MICROW" -h
said "usage: microw VERB" "$MICROW" help
said "SIGHUP.*jobs/mpirun.sh" sh -c "'$MICROW' --help | tr '\n' ' '"
for verb in $verbs; do
    said "usage: microw $verb" "$MICROW" "$verb" --help
    cp "$work/out" "$work/help"
    for part in "--quiet" "^Example:" "^  .*microw $verb"; do
        grep -q -e "$part" "$work/help" || fail "no '$part' in the help of $verb"
    done
    said "usage: microw $verb" "$MICROW" "$verb" -h
    said "usage: microw $verb" "$MICROW" help "$verb"
    cmp -s "$work/out" "$work/help" || fail "help $verb and $verb --help differ"
done
said "Keys read from the experiment file: .*train" "$MICROW" train --help
said "usage: microw train" "$MICROW" train "$work/none.yaml" --overwrite --help # with --help it reads no file
for how in version --version -V; do said "^microw [0-9]" "$MICROW" "$how"; done
checks=$((checks + 2))
[ "$(mpi 3 "$MICROW" help train 2>/dev/null | grep -c '^usage:')" = 1 ] || fail "help under mpirun is not printed once"
[ "$(mpi 3 "$MICROW" trian 2>&1 | grep -c 'unknown verb')" = 1 ] || fail "a message under mpirun is not printed once"
checks=$((checks + 1)) # help starts no MPI: its library would complain of these settings, and starting it takes a while
OMPI_MCA_btl=none PMIX_MCA_gds=none "$MICROW" train --help >"$work/out" 2>&1 || fail "help started MPI"
checks=$((checks + 1)) # a process without a launcher sends to nobody
env -u OMPI_MCA_pml LD_DEBUG=files "$MICROW" layers --model "$model" 2>&1 | grep -q "mca_mtl_\|libpsm" && fail "a process alone opened a library of a network"

refuses 2 "expected a verb" "$MICROW"
refuses 2 "did you mean 'harvest'" "$MICROW" harvst "$work/exp.yaml"
refuses 2 "did you mean 'train'" "$MICROW" help trian
refuses 2 "expected a verb, found '--quiet'" "$MICROW" --quiet train "$work/exp.yaml"
refuses 2 "needs one experiment file, for instance: microw train" "$MICROW" train
refuses 2 "takes one experiment file, found 'b.yaml' too" "$MICROW" train "$work/exp.yaml" b.yaml
refuses 2 "the name of the experiment file is empty" "$MICROW" train ""
refuses 2 "takes options only, found 'gpt2'" "$MICROW" layers gpt2
refuses 2 "'--set' needs a value: --set KEY=VALUE" "$MICROW" train "$work/exp.yaml" --set
refuses 2 "'--set' needs a value.*found the option '--overwrite'" "$MICROW" train "$work/exp.yaml" --set --overwrite
refuses 2 "expected KEY=VALUE" "$MICROW" train "$work/exp.yaml" --set sae.k
refuses 2 "no option '--overwrit'; did you mean '--overwrite'" "$MICROW" train "$work/exp.yaml" --overwrit
refuses 2 "no option '--prompt'" "$MICROW" layers --model "$model" --prompt a
refuses 2 "no option '-x'" "$MICROW" layers -x
refuses 2 "'--overwrite' takes no value, found 'yes'" "$MICROW" train "$work/exp.yaml" --overwrite=yes
refuses 2 "'--prompt' is given twice: 'a' and 'b'" "$MICROW" generate --model "$model" --prompt a --prompt=b
refuses 2 "one of them" "$MICROW" sweep "$work/exp.yaml" --list --table
refuses 2 "one of them" "$MICROW" plan "$work/exp.yaml" --gpus 2 --ranks 2
refuses 2 "needs an experiment file" "$MICROW" config --set sae.k=3

# files that do not exist, or are of another kind
(cd "$work" && "$MICROW" train none.yaml >out 2>err)
check "2 for a file that is not there" [ $? = 2 ]
check "where it was looked for" grep -q "none.yaml: cannot read: No such file.*looked for $(cd "$work" && pwd -P)/none.yaml" "$work/err"
check "the error is one line" [ "$(wc -l <"$work/err")" = 1 ]
refuses 2 "this is a folder: expected an experiment file" "$MICROW" train "$work"
refuses 2 "is a file: expected the model's folder" "$MICROW" layers --model "$work/exp.yaml"
printf "{" >"$work/broken.yaml"
refuses 2 "broken.yaml:[0-9]*: YAML" "$MICROW" train "$work/broken.yaml"
truncate -s 65M "$work/large.yaml"
refuses 2 "too large for an experiment file" "$MICROW" train "$work/large.yaml"
for file in none none.h5 none.npy none.json none.safetensors; do
    refuses 1 "none.*: cannot read: No such file.*looked for $(cd "$work" && pwd -P)/none" sh -c "cd '$work' && '$MICROW' inspect $file"
done
# the message begins with the likelier cause
refuses 1 "^microw: error: model 'no-such-model' is not in the Hugging Face cache" "$MICROW" layers --model no-such-model
refuses 1 "^microw: error: model '$SOURCE/configs/modle': no such folder" "$MICROW" layers --model "$SOURCE/configs/modle"
refuses 1 ": no such folder ($(cd "$SOURCE" && pwd -P)/configs/modle), and" sh -c "cd '$SOURCE' && '$MICROW' layers --model configs/modle"

# empty values
refuses 2 "'--sae' has an empty value" "$MICROW" export --sae "" --format saelens --out "$work/x"
refuses 2 "'--format' has an empty value" "$MICROW" export --sae a --format= --out "$work/x"
refuses 2 "'--out' has an empty value" "$MICROW" export --sae a --format saelens --out ""
refuses 2 "'--out' has an empty value" "$MICROW" plot "$work/exp.yaml" --out ""
refuses 2 "'--model' has an empty value" "$MICROW" layers --model=
for key in name store model.path dataset.path sae.activations steer.measure_path; do
    refuses 2 "$key: expected a text, found an empty one" "$MICROW" train "$work/exp.yaml" --set "$key="
done
refuses 2 "dataset.path: expected a text" "$MICROW" train "$work/exp.yaml" --set 'dataset.path=[a, ""]'
refuses 2 "naming.command: expected a text" "$MICROW" name "$work/exp.yaml" --set naming.command=
refuses 2 "variants.name: expected a text" "$MICROW" steer "$work/exp.yaml" --set 'steer.variants=[{name: "", ablate: [1]}]'

# --name=value, -- and options in any place
said "k: 9" "$MICROW" config --set=sae.k=9 "$work/exp.yaml"
cp "$work/exp.yaml" "$work/--odd.yaml"
(cd "$work" && "$MICROW" config --set sae.k=9 -- --odd.yaml >out 2>err)
check "an operand behind --" [ $? = 0 ]
check "with its settings" grep -q "k: 9" "$work/out"

# prompts and the model's context
long=$(printf 'Anna %.0s' $(seq 80))
near=$(printf 'Anna %.0s' $(seq 60))
refuses 2 "prompt has 8[0-9] tokens: the model's context is 64" "$MICROW" generate --model "$model" --prompt "$long"
"$MICROW" generate --model "$model" --prompt "$near" >"$work/full.out" 2>"$work/err"
check "a text that ends at the context" [ $? = 0 ]
check "is told" grep -q "info: the text ends after [0-9]* of 40 new tokens: the model's context of 64 is full" "$work/err"
said "Anna" "$MICROW" generate --model "$model" --prompt "$near" --quiet
check "quiet changes no result" cmp "$work/out" "$work/full.out"
said "Anna" "$MICROW" generate --model "$model" --prompt Anna --max-new-tokens 3
finish
