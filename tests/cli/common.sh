# Sourced by the shell tests. $MICROW: the program; $SOURCE: the tree; $MPIRUN.
set -u
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export PMIX_MCA_psec=native # without it MPI waits two seconds for munge if munge is installed but does not run
export OMPI_MCA_pml=ob1     # no libraries of networks, one of which takes 0.2 s of each start
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MICROW_CHECK_LEAKS=1
work=$(mktemp -d /tmp/microw-cli-XXXXXX)
trap 'rm -rf "$work"' EXIT
failed=0
checks=0

fail() {
    failed=$((failed + 1))
    echo "FAIL $*" >&2
}

check() { # check DESCRIPTION COMMAND...
    checks=$((checks + 1))
    what=$1
    shift
    "$@" >/dev/null 2>&1 || fail "$what"
}

# refuses CODE TEXT COMMAND...: expects the exit code, one message that contains TEXT, and no result on stdout.
refuses() {
    checks=$((checks + 1))
    code=$1
    text=$2
    shift 2
    timeout 60 "$@" >"$work/out" 2>"$work/err"
    got=$?
    [ "$got" = "$code" ] || fail "exit code $got, expected $code: $*"
    grep -q -- "$text" "$work/err" || { fail "no '$text' from: $*"; sed 's/^/    /' "$work/err" >&2; }
    [ "$(grep -c 'microw: error' "$work/err")" -le 2 ] || { fail "more than one message from: $*"; cat "$work/err" >&2; }
    ! grep -q 'were not freed' "$work/err" || fail "memory was not freed by: $*"
}

# needs PROGRAM...: skips the test if one is missing
needs() {
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || { echo "skipped: no $program here"; exit 77; }
    done
}

mpi() { # mpi RANKS COMMAND...
    ranks=$1
    shift
    timeout 120 "$MPIRUN" --oversubscribe -np "$ranks" "$@"
}

finish() {
    echo "$checks checks, $failed failed"
    [ "$failed" = 0 ]
}

# A short experiment on the demo model.
small() {
    cat <<END
name: small
store: $work/store
model: {path: $SOURCE/configs/demo/model, dtype: f32}
dataset: {path: $SOURCE/configs/demo/corpus.txt, split: line, context: 64, batch: 16, pack: false, limit_documents: 400}
harvest: {sites: [1.resid_post, 2.mlp_out], dtype: bf16}
sae: {n_latents: 256, k: 8}
train: {tokens: 40_000, batch: 512, lr: 2e-3, init_rows: 2000, checkpoint_every: 20}
discover: {top_texts: 5, categories: $SOURCE/configs/demo/categories.json, show: 2}
evaluate: {tokens: 3000}
steer: {prompts: ["one morning the"], concept: person, samples: 2, max_new_tokens: 12, temperature: 0.7}
END
}
