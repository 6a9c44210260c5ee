# Compares python/microw_store with files that the program has just written: rows, tokens, documents, codes, damaged
# files, and the tables of docs/reference/store-format.md. Uses the first of $MICROW_TEST_PYTHON, python3 and
# /usr/bin/python3 that has numpy and h5py.
. "$SOURCE/tests/cli/common.sh"
python=""
for candidate in ${MICROW_TEST_PYTHON:-} python3 /usr/bin/python3; do
    if "$candidate" -c "import numpy, h5py" 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ "$python" ] || { echo "skipped: no python3 with numpy and h5py here"; exit 77; }

small | grep -v '^steer\|^evaluate' >"$work/exp.yaml"
echo "evaluate: {ce_recovered: false}" >>"$work/exp.yaml"
microw() { # microw STAGE SETTINGS...
    stage=$1
    shift
    checks=$((checks + 1))
    "$MICROW" "$stage" "$work/exp.yaml" "$@" >"$work/out" 2>"$work/err" </dev/null || { fail "$stage $*"; cat "$work/err" >&2; }
}

# each stored type, packed and not, with two sites; the first is that of the experiment file
for dtype in bf16 f16 f32; do
    microw harvest --set name=$dtype --set harvest.dtype=$dtype
    microw harvest --set name=$dtype-packed --set harvest.dtype=$dtype --set dataset.pack=true --set dataset.limit_documents=150
done

# tokens that are parts of characters; token ids alone, without text
for i in 1 2 3 4 5; do
    printf 'the cafe\314\201 has \342\234\223 %d \342\202\254 and \360\237\230\200 for \346\227\245\346\234\254 .\n' $i
done >"$work/signs.txt"
microw harvest --set name=signs --set dataset.path="$work/signs.txt"
"$python" -c "import numpy, sys; numpy.save(sys.argv[1], numpy.arange(300, dtype='u2').reshape(10, 30) + 1)" "$work/ids.npy"
microw harvest --set name=ids --set dataset.path="$work/ids.npy"

while read -r name settings; do
    sets="--set name=$name --set sae.activations=bf16"
    for s in $settings; do sets="$sets --set $s"; done
    for stage in train discover evaluate; do microw $stage $sets; done
done <<'END'
topk
batch_topk sae.variant=batch_topk
multi_topk sae.variant=multi_topk train.normalize=none
matryoshka_topk sae.variant=matryoshka_topk
matryoshka_batch_topk sae.variant=matryoshka_batch_topk sae.groups=[64,192] train.ema=0.9
relu sae.variant=relu train.sparsity=1
jump_relu sae.variant=jump_relu train.l0_target=8
gated sae.variant=gated train.normalize=standard train.init=data
transcoder sae.site=1.resid_post sae.target=2.mlp_out train.k_anneal=20
skip sae.site=1.resid_post sae.target=2.mlp_out sae.skip=true sae.variant=jump_relu
crosscoder sae.sites=[1.resid_post,2.mlp_out] sae.variant=batch_topk train.normalize=standard
crosscoder_relu sae.sites=[2.mlp_out,1.resid_post] sae.variant=relu train.sparsity=1
f16 sae.activations=f16
f32-packed sae.activations=f32-packed
several sae.activations=[bf16,bf16-packed]
END

export MICROW_READER_STORE="$work/store" MICROW_SOURCE="$SOURCE" PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$SOURCE/python"
refuses 1 "bf16/activations.h5: another process has it open and holds HDF5's lock on it" \
    "$HOLD" "$work/store/activations/bf16/activations.h5" "$python" -c "import microw_store; microw_store.Store('$work/store/activations/bf16')"
checks=$((checks + 1))
"$python" -m unittest discover -s "$SOURCE/python/tests" -t "$SOURCE/python/tests" 2>&1 || fail "the reader's own tests"
finish
