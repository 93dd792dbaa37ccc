#!/usr/bin/env bash
# Trains the models behind the curves of docs/mim.md and gathers their statistics into one CSV.
#
#   scripts/mim-curves.sh EXPERIMENT OUTPUT_DIR [SEEDS] [DATA_DIR]
#
# EXPERIMENT: capacity (toy4 over hidden units: MIM and VAE), entropy (the same with the joint entropy), bottleneck (toy4_20 over code
# sizes), pca (20 principal components of Fashion-MNIST over code sizes). SEEDS: e.g. "1 2 3". A run whose statistics exist is not repeated.
# IBHOST names the program (default target/release/ibhost), THREADS how many it may use. The CSV has the columns experiment, line (model), x,
# seed, metric, value; `ibhost plot --figure axis --values` draws it.
set -euo pipefail
experiment=$1 output=$2 seeds=${3:-"1 2 3"} data=${4:-data}
ibhost=${IBHOST:-target/release/ibhost}
mkdir -p "$output/runs"
csv="$output/$experiment.csv"
[ -s "$csv" ] || echo "experiment,line,x,seed,metric,value" >"$csv"
threads=${THREADS:+--threads $THREADS}
mids=${MIDS:-"5 20 50 100 200 300 400 500"} sizes=${SIZES:-"2 4 6 8 10 12 14 16 18 20"}

# model, x, seed, objective, hidden units, code size, data set
one() {
    local model=$1 x=$2 seed=$3 objective=$4 mid=$5 z=$6 dataset=$7 run
    grep -q "^$experiment,$model,$x,$seed," "$csv" && return
    # shellcheck disable=SC2086 # no threads, no words
    run=$("$ibhost" run $threads --data-dir "$data" --output-dir "$output/runs" --format json --objective "$objective" \
        --encoder "vector_mlp/z:$z|mid:$mid|min_logvar:6" --decoder "vector_mlp/mid:$mid|min_logvar:6" --dataset "$dataset" \
        --schedule noam/warmup:3 --set lr=0.001 --set epochs=200 --set batch_size=128 --set evaluation_batch=10000 \
        --set early_stopping.patience=4 --set early_stopping.from=3 --set "seed=$seed" 2>"$output/last.log" |
        tail -1 | sed 's/.*"run_dir": *"\([^"]*\)".*/\1/') || { echo "$experiment $model $x seed $seed failed: $output/last.log" >&2; return; }
    # shellcheck disable=SC2086
    "$ibhost" analyze "$run" $threads --data-dir "$data" --checkpoint best --analysis mim_statistics --format json >/dev/null
    sed "s/^/$experiment,$model,$x,$seed,/" "$run/analyses/results.csv" >>"$csv"
}

mim="mim/sampled:true|q_x_sample:decoder|warmup:3|min_logvar:6"
vae="mim/loss:vae|warmup:3|min_logvar:6"
for seed in $seeds; do
    case $experiment in
    capacity) for mid in $mids; do one MIM "$mid" "$seed" "$mim" "$mid" 2 toy/k:4; one VAE "$mid" "$seed" "$vae" "$mid" 2 toy/k:4; done ;;
    entropy)
        for mid in $mids; do
            one MIM-H "$mid" "$seed" "$mim|entropy:true" "$mid" 2 toy/k:4
            one VAE+H "$mid" "$seed" "$vae|entropy:true" "$mid" 2 toy/k:4
        done ;;
    bottleneck | pca)
        if [ "$experiment" = pca ]; then dataset="pca/k:20|per_split:true"; else dataset="toy/k:4|d:20"; fi
        for z in $sizes; do one MIM "$z" "$seed" "$mim" 50 "$z" "$dataset"; one VAE "$z" "$seed" "$vae" 50 "$z" "$dataset"; done ;;
    *) echo "unknown experiment $experiment" >&2; exit 2 ;;
    esac
done
