#!/usr/bin/env bash
# The table of docs/benchmark.md: twelve tasks, all methods, five folds, and the 3D networks. Hours; the same call goes on where it was
# stopped, and several may run at once.
#
#   examples/benchmark/run.sh COHORTS OUT [OPTION …]
#
# COHORTS holds lidc_nodules/ and adrenalmnist3d/ (the head of twelve.toml); the rest is made there. OPTIONs go to `host benchmark`, for
# example --task malignant. PYTHON names a Python with numpy, scipy and nibabel; with PyTorch and MONAI too it trains the 3D networks where
# NETWORKS=1.
set -euo pipefail
cohorts=$(realpath "$1")
out=$2
shift 2
cd "$(dirname "$0")/../.."
host=${HOST:-target/release/host}
python=${PYTHON:-python3}
for plugin in lung_nodule liver_injury brain_mri; do
  [ -e "$cohorts/phantoms/$plugin/table.csv" ] || "$host" phantom $plugin --count 300 --seed 1 --out "$cohorts/phantoms/$plugin"
done
[ -e "$cohorts/points/table.csv" ] || "$python" examples/nodules/prompts.py "$cohorts/lidc_nodules/table.csv" "$cohorts/points"
benchmark() { "$host" benchmark examples/benchmark/twelve.toml --data "$cohorts" --out "$out" "$@"; }
benchmark --plan > /dev/null
if [ -n "${NETWORKS:-}" ]; then
  # TASK OPTION …: the options are those of the first run on each task; whoever tunes them says so in docs/benchmark.md.
  networks() {
    local task=$1 model
    shift
    mkdir -p "$cohorts/baselines/$task"
    for model in resnet18 densenet121; do
      local to=$cohorts/baselines/$task/$model.csv
      [ -e "$to" ] || "$python" examples/baselines/train.py "$out/folds/$task.csv" "$to" --model $model "$@"
    done
  }
  for task in malignant calcified not_solid spiculated lobulated; do
    networks $task --size 24,48,48 --around-mask 40 --window=-1000,400 --flips
  done
  networks lung_nodule --size 48,64,64 --window=-1000,400 --flips
  networks liver_injury --size 48,64,64 --window=20,170 --flips
  networks brain_mri --size 48,64,64 --flips
fi
benchmark "$@"
