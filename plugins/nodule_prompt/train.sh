#!/usr/bin/env bash
# Makes the weights of nodule_prompt and the figures of its model card: in folds by patient, beside threshold and connect, and beside the
# same plugin that is told the scan's centre in the place of the point.
#
#   plugins/nodule_prompt/train.sh TABLE.csv [WORK]
#
# TABLE.csv is the cohort's (docs/real_scans.md). NODULES (240), FOLDS (3) and EPOCHS (6) are those of the shipped weights; more of each is
# better and slower: two points of 240 nodules in three folds took about a quarter of an hour of one quiet core. Needs python3 with
# numpy, scipy and nibabel.
set -euo pipefail
table=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=${2:-target/nodule_prompt}
host=${HOST:-target/release/host}
plugin=${PLUGIN:-target/release/libnodule_prompt.so}
python=${PYTHON:-python3}
"$python" examples/nodules/prompts.py "$table" "$work/points" --nodules "${NODULES:-240}" --seed 1
for arm in table centre; do
  "$host" train --plugin "$plugin" --data "$work/points/$arm.csv" --folds "${FOLDS:-3}" --seed 1 --augment none --batch 8 \
    --epochs "${EPOCHS:-6}" --head-lr 3e-3 --out "$work/$arm" $([ $arm = table ] || echo --unchecked) \
    --intended-use "Research only. Not for diagnosis. Masks and labels are radiologists' readings, not pathology."
  "$python" examples/nodules/dice.py "$work/points/$arm.csv" "$work/$arm" "$plugin" "$host" --out "$work/$arm.dice.csv" | tee "$work/$arm.txt"
done
cp "$work/table/nodule_prompt.safetensors" plugins/nodule_prompt/
