#!/bin/bash
# Compares the predictions of `microw plan --device measured` with runs: harvest and training of the demo model at 1 and
# 2 ranks, one thread each. Prints a table of ratios.
#     tools/check_plan.sh [RANKS ...]
set -eu
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
microw=${MICROW:-build/microw}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rank_list=${*:-1 2}
base="configs/quickstart.yaml --set store=$work --set train.aux_k=0 --set train.tokens=400_000"

number() { tr -d , | grep -o "$1" | grep -o '[0-9.e+]*' | head -1; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

printf '%-44s %5s %12s %12s %6s\n' what ranks predicted measured ratio
for ranks in $rank_list; do
    run="mpirun --oversubscribe -np $ranks $microw"
    row=$($run plan $base 2>/dev/null | grep "^ *$ranks  ")
    rm -rf "$work"/activations
    got=$($run harvest $base 2>/dev/null | number '[0-9]* tokens/s')
    guess=$(echo "$row" | awk '{ print $3 }')
    printf '%-44s %5s %12.0f %12.0f %6s\n' "harvest, tokens/s" "$ranks" "$guess" "$got" "$(ratio "$guess" "$got")"
    for sae in "1024 16 2048" "4096 32 4096" "8192 32 4096" "16384 32 1024"; do
        set -- $sae
        sets="--set sae.n_latents=$1 --set sae.k=$2 --set train.batch=$3"
        rm -rf "$work/sae_models"
        guess=$($run plan $base $sets 2>/dev/null | grep "^ *$ranks  " | awk '{ print $6 }')
        got=$($run train $base $sets --overwrite 2>/dev/null | grep '^train' | number '[0-9]* tokens/s')
        printf '%-44s %5s %12.0f %12.0f %6s\n' "train, $1 latents, k $2, batch $3, rows/s" "$ranks" "$guess" "$got" "$(ratio "$guess" "$got")"
    done
done
