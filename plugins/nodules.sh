#!/usr/bin/env bash
# Makes the weights of the nodule tasks and the figures of their model cards.
#
#   plugins/nodules.sh TABLE.csv [WORK]
#
# TABLE.csv: case, patient, image, mask, malignant, calcified, not_solid, spiculated, lobulated, sphericity, diameter_mm. The
# cohort is not part of this project (see a model card). The frozen features are computed once, about 0.3 processor-seconds a
# nodule, and shared by the tasks; the last layer is then fitted at once. Needs python3 with numpy, nibabel, scikit-learn.
set -euo pipefail
table=$(realpath "$1")
cd "$(dirname "$0")/.."
work=${2:-target/nodules}
cargo build --release --workspace
host=target/release/host

# PLUGIN LABEL
task() {
    local plugin=$1 label=$2
    # The same for every task: six blocks of the frozen backbone, the mask's numbers and the patch tokens inside it, and a
    # linear layer. Depth and penalty were chosen among a few by the mean over the tasks on these folds (docs/real_scans.md);
    # a run chooses nothing by the cases that a fold is measured on.
    $host train --plugin "$plugin" --data "$table" --out "$work/$plugin" --folds 5 --seed 1 --adapter none --lambda 0 \
        --augment none --cache "$work/cache" --depth 6 --fusion none --mask-features scalars,details,cover --logistic 10 \
        --intended-use "Research only. Not for diagnosis. The labels are radiologists' ratings, not pathology."
    $host eval --predictions "$work/$plugin/predictions.csv" --out "$work/$plugin/eval"
    if [ "$label" != sphericity ]; then
        python3 examples/nodules/scalars.py "$table" "$label" "$work/$plugin/predictions.csv" "$work/$plugin/scalars.csv"
        $host eval --predictions "$work/$plugin/scalars.csv" --out "$work/$plugin/scalars_eval"
        $host eval --compare "$work/$plugin/predictions.csv" "$work/$plugin/scalars.csv" | tee "$work/$plugin/compare.txt"
    fi
    cp "$work/$plugin/$plugin.safetensors" "plugins/$plugin/"
}

task nodule_malignancy malignant
task nodule_spiculation spiculated
task nodule_lobulation lobulated
task nodule_texture not_solid
task nodule_calcification calcified
task nodule_sphericity sphericity
