#!/usr/bin/env bash
# Makes the weights of the nodule tasks and the figures of their model cards.
#
#   plugins/nodules.sh TABLE.csv [WORK]
#
# TABLE.csv: case, patient, image, mask, malignant, calcified, not_solid, spiculated, lobulated, sphericity, diameter_mm. The
# cohort is not part of this project (see a model card). The frozen features are computed once, about 0.6 processor-seconds a
# nodule, and shared by the tasks; then a fold takes about a processor-minute. Needs python3 with numpy, nibabel, scikit-learn.
set -euo pipefail
table=$(realpath "$1")
cd "$(dirname "$0")/.."
work=${2:-target/nodules}
cargo build --release --workspace
host=target/release/host

# PLUGIN LABEL OPTION …
task() {
    local plugin=$1 label=$2
    shift 2
    $host train --plugin "$plugin" --data "$table" --out "$work/$plugin" --folds 5 --seed 1 --adapter none --lambda 0 \
        --augment none --batch 8 --cache "$work/cache" "$@" \
        --intended-use "Research only. Not for diagnosis. The labels are radiologists' ratings, not pathology."
    $host eval --predictions "$work/$plugin/predictions.csv" --out "$work/$plugin/eval"
    if [ "$label" != sphericity ]; then
        python3 examples/nodules/scalars.py "$table" "$label" "$work/$plugin/predictions.csv" "$work/$plugin/scalars.csv"
        $host eval --predictions "$work/$plugin/scalars.csv" --out "$work/$plugin/scalars_eval"
        $host eval --compare "$work/$plugin/predictions.csv" "$work/$plugin/scalars.csv" | tee "$work/$plugin/compare.txt"
    fi
    cp "$work/$plugin/$plugin.safetensors" "plugins/$plugin/"
}

task nodule_malignancy malignant --epochs 20 --head-lr 3e-3
task nodule_spiculation spiculated --epochs 20 --head-lr 3e-3
task nodule_lobulation lobulated --epochs 20 --head-lr 3e-3
task nodule_texture not_solid --mask-features scalars,cover --epochs 15 --head-lr 3e-3
task nodule_calcification calcified --mask-features scalars,cover --epochs 15 --head-lr 1e-2
task nodule_sphericity sphericity --epochs 15 --head-lr 3e-3
