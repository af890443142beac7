#!/usr/bin/env bash
# Makes liver_injury.safetensors and the numbers of the model card, from nothing. Two cores: about an hour, half of it training.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:-target/liver_injury}
cargo build --release --workspace
host=target/release/host

$host phantom liver_injury --count 600 --seed 101 --out "$work/train"
$host phantom liver_injury --count 200 --seed 404 --out "$work/test"
$host train --plugin liver_injury --data "$work/train/table.csv" --out "$work/run" --first-block 8 \
    --epochs 4 --batch 4 --lr 1e-3 --head-lr 1e-3 --augment none --seed 1
plugins/three_arms.sh liver_injury "$work/train/table.csv" "$work/test/table.csv" "$work/run/liver_injury.safetensors" "$work/arms"
cp "$work/run/liver_injury.safetensors" plugins/liver_injury/liver_injury.safetensors
