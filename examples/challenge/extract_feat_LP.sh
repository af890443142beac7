#!/bin/sh
# A vector for each CT in INPUTS, as the CVPR 2026 challenge "Foundation Models for 3D Computed Tomography" calls its containers:
# INPUTS/CASE.nii.gz in, OUTPUTS/CASE.h5 with a dataset `y_hat` out; with MASKS_DIR around the mask MASKS_DIR/CASE.nii.gz.
#
#   sh extract_feat_LP.sh          in the container
#   INPUTS=in OUTPUTS=out HOST=target/release/host sh examples/challenge/extract_feat_LP.sh
set -eu
inputs=${INPUTS:-/workspace/inputs}
outputs=${OUTPUTS:-/workspace/outputs}
host=${HOST:-host}
table=$(mktemp --suffix .csv)
trap 'rm -f "$table"' EXIT
inputs=$(cd "$inputs" && pwd)
echo "case,image" > "$table"
for image in "$inputs"/*.nii.gz; do
    [ -e "$image" ] || { echo "$inputs: no .nii.gz" >&2; exit 1; }
    echo "$(basename "$image" .nii.gz),$image" >> "$table"
done
mkdir -p "$outputs"
# PLUGIN names a task whose head makes the vector; without it the mean class token of the frozen backbone.
"$host" embed --table "$table" ${PLUGIN:+--plugin "$PLUGIN"} ${BACKBONE:+--backbone "$BACKBONE"} \
    ${MASKS_DIR:+--masks-dir "$MASKS_DIR"} --out "$outputs/"
