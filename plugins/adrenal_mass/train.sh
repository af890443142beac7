#!/usr/bin/env bash
# Makes the weights of adrenal_mass and the figures of its model card: about a quarter of an hour on two quiet cores, nearly all of it for
# frozen features, which are computed once.
#
#   plugins/adrenal_mass/train.sh adrenalmnist3d_64.npz [WORK]
set -euo pipefail
archive=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=${2:-target/adrenal_mass}
cargo build --release --workspace
host=target/release/host
$host train --plugin adrenal_mass --data "$archive:train" --out "$work" --folds 5 --seed 1 --adapter none --augment none --logistic 8 \
    --cache "$work/cache" --unchecked \
    --intended-use "Research only. Not for diagnosis. For segmented adrenal glands, as AdrenalMNIST3D has them."
$host eval --predictions "$work/predictions.csv" --out "$work/eval"
$host eval --plugin adrenal_mass --weights "$work/adrenal_mass.safetensors" --data "$archive:val" --out "$work/val"
cp "$work/adrenal_mass.safetensors" plugins/adrenal_mass/
