#!/usr/bin/env bash
# Makes the weights of the nodule tasks and the figures of their model cards.
#
#   plugins/nodules.sh TABLE.csv [WORK] [PENALTY]
#
# TABLE.csv: case, patient, image, mask, malignant, calcified, not_solid, spiculated, lobulated, sphericity, diameter_mm. The
# cohort is not part of this project (see a model card). The same for every task: six blocks of the frozen backbone, the mask's numbers
# and the patch tokens inside it, a linear layer that is fitted at once. The frozen features are computed once, about 0.6
# processor-seconds a nodule, and shared by the tasks; then a fold takes seconds. Needs python3 with numpy, nibabel, scikit-learn.
set -euo pipefail
table=$(realpath "$1")
cd "$(dirname "$0")/.."
work=${2:-target/nodules}
penalty=${3:-10}
host=${HOST:-target/release/host}
[ -n "${HOST:-}" ] || cargo build --release --workspace

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
    cp "$out/$plugin.safetensors" "plugins/$plugin/"
}

task nodule_malignancy malignant
task nodule_calcification calcified
task nodule_texture not_solid
task nodule_spiculation spiculated
task nodule_lobulation lobulated
task nodule_sphericity sphericity
