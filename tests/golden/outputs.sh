# Small runs that cover what the program writes. tests/cli/golden.sh compares the outputs with recorded sums,
# tools/same_outputs.sh compares the outputs of two programs. Sourced after tests/cli/common.sh. $RANKS and $OMP_NUM_THREADS say
# how most runs are made; the outputs do not depend on them.

# Libraries choose their kernels by the CPU; every CPU with AVX2 has these. One run goes without the limit: `native` below.
limits="DNNL_MAX_CPU_ISA ONEDNN_MAX_CPU_ISA OPENBLAS_CORETYPE"
export DNNL_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell

# one RANKS ARGUMENTS...: a run of $program in the folder $area; its output is $area/printed.
one() {
    one_ranks=$1
    shift
    if [ "$one_ranks" = 1 ]; then set -- "$program" "$@"; else set -- mpi "$one_ranks" "$program" "$@"; fi
    (cd "$area" && "$@") >"$area/printed" 2>"$area/messages" </dev/null && return
    fail "$*"
    tail -n 5 "$area/messages" >&2
}

# each COMMAND...: runs the command once for each line of the standard input, with the words of the line as further arguments.
each() {
    while read -r line; do
        [ -z "$line" ] || "$@" $line
    done
}

# on STORE RANKS VERB FILE NAME [KEY=VALUE...]: a stage, or all, of an experiment under this name.
on() {
    on_sets="--set store=$1 --set name=$5"
    on_run="$2 $3 $4"
    shift 5
    for on_set in "$@"; do on_sets="$on_sets --set $on_set"; done
    one $on_run $on_sets
}

effective() { # effective FILE NAME [KEY=VALUE...]
    on nowhere 1 config "$@"
    cp "$area/printed" "$area/settings/config/$2.yaml"
}

print_to() { # print_to FILE ARGUMENTS...: of a run whose output is data
    print_file=$1
    shift
    one 1 "$@"
    cp "$area/printed" "$area/$print_file"
}

# ---- what the runs read ------------------------------------------------------------------------------------------------

# All paths are relative to $area: fingerprints hold paths as they are written.
write_inputs() {
    mkdir -p "$area/settings/config" "$area/numbers"
    cp -r "$SOURCE/configs" "$area/configs"
    cat >"$area/exp.yaml" <<'YAML'
name: base
model: {path: configs/demo/model, dtype: f32, device: cpu}
dataset: {path: configs/demo/corpus.txt, split: line, context: 64, batch: 16, pack: false, limit_documents: 200}
harvest: {sites: [1.resid_post, 2.mlp_out], dtype: bf16}
sae: {n_latents: 192, k: 8}
train: {tokens: 16_000, batch: 256, lr: 2e-3, init_rows: 1000, dead_after: 3000, checkpoint_every: 20}
discover: {top_texts: 4, samples: 3, neighbours: 3, logit_tokens: 3, categories: configs/demo/categories.json, show: 0}
evaluate: {tokens: 1000}
YAML
    cat "$area/exp.yaml" - >"$area/full.yaml" <<'YAML'
steer:
  prompts: ["one morning the", "then Hugo"]
  concept: person
  samples: 2
  max_new_tokens: 10
  temperature: 0.7
  top_k: 20
  top_p: 0.95
  measure_tokens: 1000
  scales: [0.5, 1]
  variants:
    - {name: added, add: {3: 2}, edits: {5: 0.5}}
    - {name: held, clamp: {7: 3}, ablate: [9]}
report: {}
YAML
    # for an SAE that is read: no latents are chosen by what they do
    sed 's/concept: person/edits: {3: 2}/; /^harvest/d; /^train/d; /^report/d' "$area/full.yaml" >"$area/fixed.yaml"
    cat "$area/exp.yaml" - >"$area/hooks.yaml" <<'YAML'
hooks:
  list:
    - {site: 0.resid_post, kind: statistics}
    - {site: 1.resid_post, kind: scale, factor: 3}
    - {site: 1.resid_mid, kind: add, value: 0.25, columns: [1, 5]}
    - {site: 1.resid_post, kind: ablate, columns: [0]}
    - {site: 1.resid_post, kind: statistics}
YAML
    cat "$area/exp.yaml" - >"$area/sweep.yaml" <<'YAML'
sweep:
  sae.k: [4, 8]
  points:
    - {name: plain}
    - {name: wide, sae.variant: matryoshka_batch_topk, sae.n_latents: 256, train: {schedule: cosine}}
YAML
    cat "$area/exp.yaml" - >"$area/naming.yaml" <<YAML
naming: {command: "python3 name_latents.py --words", limit: 12, batch: 6, texts: 3, test_texts: 2}
YAML
    cp "$SOURCE/tools/name_latents.py" "$area"
    cp -r "$SOURCE/tests/golden/models" "$area/models"
    cat >"$area/architecture.yaml" <<'YAML'
model: {path: models/gpt2, dtype: f32, device: cpu}
dataset: {path: ids.npy, context: 32, batch: 8, bos: none}
harvest: {sites: [0.attn_q, 1.attn_z, 1.resid_post, logits], dtype: f32, skip: none}
YAML
    python3 "$SOURCE/tests/golden/content.py" --inputs "$area"
}

# ---- what does not depend on the CPU: effective settings, fingerprints, tokens ------------------------------------------

make_settings() {
    for file in "$area"/configs/*.yaml "$area"/configs/plan/*.yaml; do
        name=$(basename "$file" .yaml)
        [ "$name" != reference ] || continue
        print_to "settings/config/$name.yaml" config "${file#"$area"/}"
    done
    for file in full fixed hooks sweep naming architecture; do print_to "settings/config/$file.yaml" config "$file.yaml"; done
    each effective <<'END'
full.yaml topk model.dtype=bf16 dataset.pack=true dataset.bos=context dataset.eos=true harvest.dtype=f16 train.shards=2
full.yaml batch_topk sae.variant=batch_topk train.threshold_batches=3 train.precision=bf16 train.lr=auto
full.yaml multi_topk sae.variant=multi_topk train.precision=tf32 train.shuffle=blocks train.shuffle_window=64
full.yaml matryoshka_topk sae.variant=matryoshka_topk sae.groups=[64,128] train.schedule=constant
full.yaml matryoshka_batch_topk sae.variant=matryoshka_batch_topk train.ema=0.9 train.k_anneal=20 train.k_start=30
full.yaml relu sae.variant=relu train.sparsity=1 train.sparsity_warmup=3 train.normalize=none train.init=tied
full.yaml jump_relu sae.variant=jump_relu train.penalty=tanh train.bandwidth=1 train.threshold_init=0.2
full.yaml gated sae.variant=gated train.normalize=standard train.center=mean train.resample_every=20 train.patience=9
full.yaml transcoder sae.site=1.resid_post sae.target=2.mlp_out sae.skip=true quota_gb=5 report.embed_mb=0.5
full.yaml crosscoder sae.sites=[1.resid_post,2.mlp_out] sae.activations=[base,more] sae.n_latents=auto discover.seed=3
full.yaml steering steer.keep_error=false steer.measure_path=[configs/demo/heldout.txt] steer.category=sea steer.seed=7
END
    for name in gpt2 gemma2-9b llama31-8b; do
        print_to "settings/plan-$name.table" plan "configs/plan/$name.yaml" --gpus 16 --nodes 2 --device h100
    done
    print_to settings/layers.txt layers --model configs/demo/model
    print_to settings/points.txt sweep sweep.yaml --list

    on settings "$RANKS" harvest exp.yaml base
    each on settings 1 harvest exp.yaml <<'END'
packed dataset.pack=true dataset.bos=context dataset.eos=true dataset.context=33 harvest.skip=none harvest.skip_positions=2
cut dataset.truncate=true dataset.context=9 dataset.limit_tokens=2000 harvest.skip=bos
records dataset.path=[records.jsonl,table.csv] dataset.on_missing=skip
END
    on settings "$RANKS" train exp.yaml base
    on settings 1 train exp.yaml gated sae.variant=gated train.init=data sae.activations=[base]
    one 1 import --from fixed --format sparsify --site 1.resid_post --out settings/sae_models/fixed
    on settings "$RANKS" run fixed.yaml fixed sae.activations=[base]
}

# ---- what may depend on it ------------------------------------------------------------------------------------------------

make_numbers() {
    on numbers "$RANKS" run full.yaml base
    on numbers 1 name naming.yaml base
    one 1 names full.yaml --set store=numbers --export numbers/names.json
    one 1 names full.yaml --set store=numbers --export numbers/neuronpedia.json --format neuronpedia
    each on numbers "$RANKS" run exp.yaml <<'END'
batch_topk sae.variant=batch_topk train.threshold_batches=3
multi_topk sae.variant=multi_topk train.schedule=cosine train.ema=0.9
matryoshka_topk sae.variant=matryoshka_topk sae.groups=[64,128] train.k_anneal=20
matryoshka_batch_topk sae.variant=matryoshka_batch_topk train.aux_k=0 train.clip_norm=0
relu sae.variant=relu train.sparsity=1
jump_relu sae.variant=jump_relu train.l0_target=8
resampled train.resample_every=20 train.dead_after=500 train.aux_k=0
jump_relu_tanh sae.variant=jump_relu train.penalty=tanh train.normalize=none
gated sae.variant=gated train.normalize=standard train.init=data train.center=mean
blocks train.shuffle=blocks train.shuffle_window=32 train.schedule=constant train.patience=12
bf16 train.precision=bf16
transcoder sae.site=1.resid_post sae.target=2.mlp_out sae.skip=true
crosscoder sae.sites=[1.resid_post,2.mlp_out] sae.variant=batch_topk
f16 harvest.dtype=f16 model.dtype=bf16 dataset.pack=true
END
    on numbers 1 run exp.yaml merged sae.activations=[base,f16]
    on numbers 2 run exp.yaml shards train.shards=2 sae.n_latents=1024 sae.variant=batch_topk
    on numbers "$RANKS" harvest hooks.yaml hooks
    on numbers "$RANKS" sweep sweep.yaml sweep
    one 1 sweep sweep.yaml --set store=numbers --set name=sweep --table

    for format in saelens sparsify dictionary_learning; do
        one 1 export --sae numbers/sae_models/base --format $format --out numbers/exported/$format
    done
    one 1 export --sae numbers/sae_models/gated --format saelens --out numbers/exported/gated
    one 1 export --sae numbers/sae_models/jump_relu --format saelens --out numbers/exported/jump_relu
    one 1 export --sae numbers/sae_models/transcoder --format sparsify --out numbers/exported/transcoder
    each one 1 import <<'END'
--from numbers/exported/saelens --format saelens --out numbers/imported/saelens
--from numbers/exported/sparsify --format sparsify --site 1.resid_post --out numbers/imported/sparsify
--from numbers/exported/gated --format saelens --out numbers/imported/gated
END
    each print_to <<'END'
numbers/plain.txt generate --model configs/demo/model --device cpu --prompt one --max-new-tokens 12
numbers/changed.txt generate --model configs/demo/model --device cpu --prompt one --max-new-tokens 12 --temperature 0.8 --seed 5 --sae numbers/sae_models/base --scale 3=2 --add 5=4
END
    for folder in "$area"/models/*/; do
        name=$(basename "$folder")
        on numbers "$RANKS" harvest architecture.yaml "$name" model.path="models/$name"
    done
    unset $limits
    on numbers "$RANKS" run exp.yaml native train.precision=bf16 model.dtype=bf16
}

# outputs_of PROGRAM FOLDER PART...: what the program writes, as FOLDER/PART/..., without what differs from run to run. The parts
# are made at the same time: a run mostly waits for MPI to start.
outputs_of() {
    program=$(realpath "$1")
    outputs=$2
    shift 2
    RANKS=${RANKS:-1}
    makers=
    for part in "$@"; do
        (
            failed=0
            root=$outputs/work-$part
            area=$root/area # files of configs/ name a folder beside the tree
            mkdir -p "$root/tmp"
            export TMPDIR="$root/tmp" # two runs that end and start at the same time may not share MPI's folder of files
            write_inputs
            "make_$part"
            python3 "$SOURCE/tests/golden/content.py" "$area/$part" "$outputs/$part" "$root" || fail "the outputs cannot be read"
            rm -rf "$root"
            [ $failed = 0 ]
        ) &
        makers="$makers $!"
    done
    for maker in $makers; do wait "$maker" || failed=$((failed + 1)); done
}
