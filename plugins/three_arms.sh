#!/usr/bin/env bash
# The two frozen arms beside a plugin's LoRA, and all three on unseen cases: what adaptation is worth.
#
#   plugins/three_arms.sh PLUGIN TRAIN.csv TEST.csv WEIGHTS WORK
#
# Frozen + linear: the mean of the slices' class tokens, a linear layer. Frozen + attention: the paper's pooling instead of
# the mean. Both see the slices that the plugin sees, learn from the same cases, and choose their epoch on the same ones.
# WORK/ARM/eval has metrics.json (DeLong's intervals), WORK/compare_* the paired tests.
set -euo pipefail
plugin=$1 train=$2 test=$3 weights=$4 work=$5
host=${HOST:-target/release/host}
frozen=(--adapter none --class-tokens-only --lambda 0 --augment none --epochs "${EPOCHS:-40}" --batch 6 --head-lr 1e-3 --seed 1)
name=$(basename "$plugin" .so) name=${name#lib}

$host train --plugin "$plugin" --data "$train" --out "$work/linear/run" "${frozen[@]}" --fusion mean ${CACHE:-}
$host train --plugin "$plugin" --data "$train" --out "$work/attention/run" "${frozen[@]}" ${CACHE:-}
for arm in linear attention; do
    $host eval --plugin "$plugin" --weights "$work/$arm/run/$name.safetensors" --data "$test" --out "$work/$arm/eval"
done
$host eval --plugin "$plugin" --weights "$weights" --data "$test" --out "$work/lora/eval"
for arm in linear attention; do
    $host eval --compare "$work/lora/eval/predictions.csv" "$work/$arm/eval/predictions.csv" --out "$work/compare_$arm"
done
