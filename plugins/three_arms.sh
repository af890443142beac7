#!/usr/bin/env bash
# The two frozen arms beside a plugin's LoRA, and all three on unseen cases: what adaptation is worth.
#
#   plugins/three_arms.sh PLUGIN TRAIN.csv TEST.csv WEIGHTS WORK [OPTION …]
#
# Frozen + linear: the mean of the slices' class tokens, a linear layer. Frozen + attention: the paper's pooling instead of
# the mean. Both see the slices that the plugin sees, learn from the same cases, and choose their epoch on the same ones.
# WORK/ARM/eval has metrics.json (DeLong's intervals), WORK/compare_ARM.json the paired tests. Options go to `host train`.
set -euo pipefail
plugin=$1 train=$2 test=$3 weights=$4 work=$5
shift 5
host=${HOST:-target/release/host}
frozen=(--adapter none --class-tokens-only --lambda 0 --augment none --epochs 40 --batch 6 --head-lr 1e-3 --seed 1 "$@")

$host eval --plugin "$plugin" --weights "$weights" --data "$test" --out "$work/lora/eval"
for arm in linear attention; do
    [ $arm = linear ] && fusion=mean || fusion=attention
    $host train --plugin "$plugin" --data "$train" --test "$test" --out "$work/$arm" "${frozen[@]}" --fusion $fusion
    $host eval --predictions "$work/$arm/test_predictions.csv" --out "$work/$arm/eval"
    $host eval --compare "$work/lora/eval/predictions.csv" "$work/$arm/test_predictions.csv" --json > "$work/compare_$arm.json"
done
