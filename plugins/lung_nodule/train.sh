#!/usr/bin/env bash
# Makes lung_nodule.safetensors and the numbers of the model card, from nothing. Two cores: about an hour and a half in all.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:-target/lung_nodule}
cargo build --release --workspace
host=target/release/host

$host phantom lung_nodule --count 300 --seed 101 --out "$work/train"
$host phantom lung_nodule --count 200 --seed 404 --out "$work/test"
$host train --plugin lung_nodule --data "$work/train/table.csv" --out "$work/run" \
    --epochs 6 --batch 6 --lr 1e-3 --head-lr 1e-3 --augment flips --draws 2 --seed 1
# The baselines: the same scans and slices, the backbone frozen, a linear layer on the mean or the attention-pooled slices.
for baseline in mean_probe attention_probe; do
    $host train --plugin $baseline --data "$work/train/table.csv" --out "$work/$baseline" \
        --epochs 40 --batch 6 --head-lr 1e-3 --augment none --seed 1
    $host run --plugin $baseline --weights "$work/$baseline/$baseline.safetensors" --heatmap=false \
        "$work/test/table.csv" --out "$work/results"
done
$host run --plugin lung_nodule --weights "$work/run/lung_nodule.safetensors" "$work/test/table.csv" --out "$work/results"
$host eval --plugin lung_nodule --weights "$work/run/lung_nodule.safetensors" --data "$work/test/table.csv" --out "$work/eval"

# NumPy, SciPy and nibabel.
for plugin in mean_probe attention_probe lung_nodule; do
    python3 examples/lung_nodule/evaluate.py "$work/test" "$work/results" --plugin $plugin
done
cp "$work/run/lung_nodule.safetensors" plugins/lung_nodule/lung_nodule.safetensors
