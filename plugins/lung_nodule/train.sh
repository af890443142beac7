#!/usr/bin/env bash
# Makes lung_nodule.safetensors and the numbers of the model card, from nothing. Two cores: about an hour, half of it training.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:-target/lung_nodule}
cargo build --release --workspace
host=target/release/host

$host phantom lung_nodule --count 500 --seed 101 --out "$work/train"
$host phantom lung_nodule --count 200 --seed 404 --out "$work/test"
$host train --plugin lung_nodule --data "$work/train/table.csv" --out "$work/run" --first-block 8 \
    --epochs 5 --batch 6 --lr 1e-3 --head-lr 1e-3 --augment flips --augmentations-per-case 2 --seed 1 \
    --intended-use "Research only. Not for diagnosis. Trained on synthetic scans alone."
plugins/three_arms.sh lung_nodule "$work/train/table.csv" "$work/test/table.csv" "$work/run/lung_nodule.safetensors" "$work/arms"
# Where the heatmaps peak, and the AUROC once more: NumPy, SciPy and nibabel.
$host run --plugin lung_nodule --weights "$work/run/lung_nodule.safetensors" "$work/test/table.csv" --out "$work/results"
python3 examples/lung_nodule/evaluate.py "$work/test" "$work/results"
cp "$work/run/lung_nodule.safetensors" plugins/lung_nodule/lung_nodule.safetensors
