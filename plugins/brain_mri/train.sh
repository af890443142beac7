#!/usr/bin/env bash
# Makes brain_mri.safetensors and the numbers of the model card, from nothing. Two cores: about an hour, half of it training.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:-target/brain_mri}
cargo build --release --workspace
host=target/release/host

$host phantom brain_mri --count 300 --seed 101 --out "$work/train"
$host phantom brain_mri --count 200 --seed 404 --out "$work/test"
$host train --plugin brain_mri --data "$work/train/table.csv" --out "$work/run" --first-block 8 \
    --epochs 6 --batch 4 --lr 1e-3 --head-lr 1e-3 --augment flips --augmentations-per-case 2 --seed 1 \
    --intended-use "Research only. Not for diagnosis. For synthetic scans."
plugins/three_arms.sh brain_mri "$work/train/table.csv" "$work/test/table.csv" "$work/run/brain_mri.safetensors" \
    "$work/arms" --epochs 15
cp "$work/run/brain_mri.safetensors" plugins/brain_mri/brain_mri.safetensors
