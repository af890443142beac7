#!/usr/bin/env bash
# The nodule tasks with a linear layer that is fitted at once: weights and figures of six tasks.
#
#   examples/nodules/fitted.sh TABLE.csv WORK [HOST] [PENALTY]
#
# TABLE.csv as plugins/nodules.sh takes it. The same for every task: six blocks of the frozen backbone, the mask's numbers and the patch
# tokens inside it. Depth and penalty were chosen among a few by the mean over the tasks on these folds (docs/real_scans.md); a run
# chooses nothing by the cases that a fold is measured on. Copies nothing into plugins/. Needs python3 with numpy, nibabel,
# scikit-learn.
set -euo pipefail
table=$(realpath "$1")
work=$2
host=${3:-target/release/host}
penalty=${4:-10}
mkdir -p "$work"

# PLUGIN LABEL
task() {
    local plugin=$1 label=$2
    local out=$work/$plugin
    $host train --plugin "$plugin" --data "$table" --out "$out" --folds 5 --seed 1 --adapter none --lambda 0 --augment none \
        --cache "$work/cache" --depth 6 --fusion none --mask-features scalars,details,cover --logistic "$penalty" \
        --intended-use "Research only. Not for diagnosis. The labels are radiologists' ratings, not pathology."
    $host eval --predictions "$out/predictions.csv" --out "$out/eval"
    if [ "$label" != sphericity ]; then
        python3 examples/nodules/scalars.py "$table" "$label" "$out/predictions.csv" "$out/scalars.csv"
        $host eval --compare "$out/predictions.csv" "$out/scalars.csv" | tee "$out/compare.txt"
    fi
}

task nodule_malignancy malignant
task nodule_calcification calcified
task nodule_texture not_solid
task nodule_spiculation spiculated
task nodule_lobulation lobulated
task nodule_sphericity sphericity
