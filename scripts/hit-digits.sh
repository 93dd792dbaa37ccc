#!/usr/bin/env bash
# Trains hvae on binary_digits for nine pairs of weights (and the ladder for five), 60 epochs each: the small experiment of docs/hit.md.
#
#     scripts/hit-digits.sh OUTPUT_DIR [hvae|lvae ...]
#
# IBHOST names the program (default: target/release/ibhost), THREADS the threads of one run (default: 1).
set -euo pipefail
output=$1
shift
kinds=${*:-hvae lvae}
ibhost=${IBHOST:-target/release/ibhost}
for kind in $kinds; do
    case $kind in
        hvae) pairs='0.1,0.1 0.1,1 0.1,10 1,0.1 1,1 1,3.16 1,10 3.16,3.16 10,0.1 10,1 10,10' ;;
        lvae) pairs='0.1,1 1,0.1 1,1 10,10' ;;
        *) echo "unknown encoder $kind: hvae or lvae" >&2; exit 2 ;;
    esac
    for pair in $pairs; do
        "$ibhost" run --objective "hit/beta_y:${pair%,*}|beta_z:${pair#*,}" --encoder "$kind/c:8|z:8" \
            --decoder "$kind/c:8|px:bernoulli" --dataset binary_digits --epochs 60 --batch-size 64 --lr 1e-3 --seed 2 \
            --threads "${THREADS:-1}" --set evaluate_every=60 --output-dir "$output/$kind"
    done
done
