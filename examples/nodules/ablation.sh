#!/usr/bin/env bash
# What each ingredient of the nodule tasks is worth, alone and together.
#
#   examples/nodules/ablation.sh TABLE.csv WORK [HOST]
#
# TABLE.csv as plugins/nodules.sh takes it. Two tasks, three draws of five folds by patient; everything but the ingredient stays.
# Writes WORK/PLUGIN/INGREDIENT-SEED and prints a line for each: mean AUROC of the folds. Where two are compared,
# `host eval --compare A/predictions.csv B/predictions.csv` is the paired test.
set -euo pipefail
table=$(realpath "$1")
work=$2
host=${3:-target/release/host}

# PLUGIN INGREDIENT OPTION …
run() {
    local plugin=$1 name=$2
    shift 2
    for seed in 1 2 3; do
        local out=$work/$plugin/$name-$seed
        $host train --plugin "$plugin" --data "$table" --out "$out" --folds 5 --seed "$seed" --adapter none --lambda 0 \
            --augment none --cache "$work/cache" --fusion none --logistic 10 --threads 1 "$@" >"$out.txt" 2>&1 \
            || { echo "$plugin $name: see $out.txt" >&2; exit 1; }
        $host eval --predictions "$out/predictions.csv" --out "$out/eval" >"$out.eval.txt"
        echo "$plugin $name seed $seed: $(grep -i auroc "$out.eval.txt" | head -1)"
    done
}

for plugin in nodule_texture nodule_spiculation; do
    mkdir -p "$work/$plugin"
    run $plugin scalars --depth 6 --mask-features scalars
    run $plugin scalars_details --depth 6 --mask-features scalars,details
    run $plugin inside_12 --mask-features cover
    run $plugin inside_9 --depth 9 --mask-features cover
    run $plugin inside_6 --depth 6 --mask-features cover
    run $plugin scalars_inside_6 --depth 6 --mask-features scalars,cover
    run $plugin all_6 --depth 6 --mask-features scalars,details,cover
    run $plugin all_6_adjacent --depth 6 --mask-features scalars,details,cover --adjacent-mm 2.5
done
