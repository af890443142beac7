#!/usr/bin/env bash
# examples/baselines on a made set: both networks train, and their predictions join a benchmark's table.
#
#   PYTHON=python3 tests/outside/baselines.sh [HOST]
#
# PYTHON names a Python with PyTorch, MONAI, numpy and nibabel.
set -euo pipefail
cd "$(dirname "$0")/../.."
host=$(realpath "${1:-target/release/host}")
if ! "${PYTHON:-python3}" -c "import monai, nibabel, torch" 2> /dev/null; then
  echo "skipped: ${PYTHON:-python3} has no PyTorch, MONAI and nibabel"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ANYMC3D_HOME="$work/home"
"$host" phantom lung_nodule --count 12 --seed 3 --out "$work/lung_nodule" > /dev/null
cat > "$work/suite.toml" <<TOML
[study]
baselines = ["scalars"]
timed_scans = 0
[predictions]
"3D ResNet-18" = "baselines/{task}/resnet18.csv"
"3D DenseNet-121" = "baselines/{task}/densenet121.csv"
[[task]]
plugin = "lung_nodule"
table = "lung_nodule/table.csv"
folds = 3
[[backbone]]
name = "dinov2-small"
folder = "$PWD/backbones/dinov2-small"
[[method]]
name = "scalars"
kind = "scalars"
TOML
"$host" benchmark "$work/suite.toml" --data "$work" --out "$work/out" --plan > /dev/null
mkdir -p "$work/baselines/lung_nodule"
for model in resnet18 densenet121; do
  "$PYTHON" examples/baselines/train.py "$work/out/folds/lung_nodule.csv" "$work/baselines/lung_nodule/$model.csv" --model $model --epochs 1 \
    --size 32,32,32 --batch 4 > /dev/null
done
"$host" benchmark "$work/suite.toml" --data "$work" --out "$work/out" 2> /dev/null | tee "$work/table.md" | grep "^| "
for name in "3D ResNet-18" "3D DenseNet-121"; do
  grep -q "^| $name | [01]\.[0-9]* " "$work/table.md"
done
grep -q '"parameters": 33' "$work/baselines/lung_nodule/resnet18.json"
grep -q '"parameters": 112' "$work/baselines/lung_nodule/densenet121.json"
