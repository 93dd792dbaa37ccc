#!/usr/bin/env bash
# Trains the image models of docs/papers/mim.md on dynamic MNIST at a reduced size, evaluates them and draws their curves and grids.
#
#   scripts/mim-images.sh OUTPUT_DIR [DATA_DIR]
#
# IMAGES training images are used (default 5000), the next HOLDOUT (1000) choose the checkpoint; EPOCHS epochs (12), COMPONENTS pseudo-inputs (100),
# WARMUP epochs (4), BATCH images a step (100), learning rate LR (0.0005); MODELS are presets (default "convhvae-2level convhvae-2level-smim").
# SAMPLES codes are drawn for the likelihood of LIKELIHOODS test images (100 of 100), neighbours and the map take POINTS images (2000).
# IBHOST names the program (default target/release/ibhost), THREADS how many it may use. A model whose folder holds an embedding is not repeated.
set -euo pipefail
output=$1 data=${2:-data}
ibhost=${IBHOST:-target/release/ibhost}
threads=${THREADS:+--threads $THREADS}
runs=()
for model in ${MODELS:-convhvae-2level convhvae-2level-smim}; do
    parent="$output/$model-${IMAGES:-5000}-${EPOCHS:-12}-${COMPONENTS:-100}"
    mkdir -p "$parent"
    if ! compgen -G "$parent/*/analyses/tsne-embedding*.png" >/dev/null; then
        # shellcheck disable=SC2086 # no threads, no words
        run=$("$ibhost" run $threads --preset "$model" --data-dir "$data" --output-dir "$parent" --format json \
            --set "dataset.first=$((${IMAGES:-5000} + ${HOLDOUT:-1000}))" --set "dataset.holdout=${HOLDOUT:-1000}" --set "objective.components=${COMPONENTS:-100}" \
            --set "objective.warmup=${WARMUP:-4}" --set "epochs=${EPOCHS:-12}" --set "early_stopping.from=${WARMUP:-4}" --set "batch_size=${BATCH:-100}" --set "lr=${LR:-0.0005}" --set seed=14 2>"$parent/run.log" |
            tail -1 | sed 's/.*"run_dir": *"\([^"]*\)".*/\1/')
        # shellcheck disable=SC2086
        "$ibhost" analyze "$run" $threads --data-dir "$data" --checkpoint best --analysis image_grids \
            --analysis "knn_accuracy/points:${POINTS:-2000}" --analysis "nll/samples:${SAMPLES:-100}|points:${LIKELIHOODS:-100}" --analysis "embedding/method:tsne|points:${POINTS:-2000}" \
            >"$parent/analyses.log"
    fi
    runs+=("$parent"/*--*)
done
"$ibhost" compare "${runs[@]}" --comparison 'mean_curves/series:[objective.loss;decoder]|metrics:[negative_evidence_bound;rate;distortion]' --output "$output"
