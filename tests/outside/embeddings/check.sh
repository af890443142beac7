#!/usr/bin/env bash
# What `host embed --table` writes, in the readers of others: HDF5 in h5py, safetensors, the challenge's script; and Raptor's vectors
# beside NumPy, PyTorch and transformers (raptor.py), where PYTHON has them.
#
#   tests/outside/embeddings/check.sh [HOST]
#
# PYTHON names a Python with h5py, numpy and safetensors; else an environment is made below target/.
set -euo pipefail
cd "$(dirname "$0")/../../.."
host=$(realpath "${1:-target/release/host}")
if [ -z "${PYTHON:-}" ] || ! "$PYTHON" -c "import h5py" 2> /dev/null; then
  place=target/embeddings
  [ -x "$place/bin/python" ] || python3 -m venv "$place"
  python=$place/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 h5py==3.16.0 numpy safetensors
else
  python=$PYTHON
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ANYMC3D_HOME="$work/home" BACKBONE=$PWD/backbones/dinov2-small
mkdir "$work/in" "$work/masks"
for name in a b; do
  cp examples/scans/chest_phantom.nii.gz "$work/in/$name.nii.gz"
  cp examples/scans/chest_phantom_mask.nii.gz "$work/masks/$name.nii.gz"
done
INPUTS=$work/in OUTPUTS=$work/whole HOST=$host sh examples/challenge/extract_feat_LP.sh
INPUTS=$work/in OUTPUTS=$work/around HOST=$host MASKS_DIR=$work/masks sh examples/challenge/extract_feat_LP.sh
printf 'case,image\na,%s/in/a.nii.gz\nb,%s/in/b.nii.gz\n' "$work" "$work" > "$work/t.csv"
"$host" embed --table "$work/t.csv" --backbone "$BACKBONE" --out "$work/all.h5"
"$host" embed --table "$work/t.csv" --backbone "$BACKBONE" --out "$work/all.safetensors"
"$python" - "$work" <<'PY'
import json, sys, h5py, numpy as np
from safetensors import safe_open
work = sys.argv[1]
one = lambda folder, case: h5py.File(f"{work}/{folder}/{case}.h5")["y_hat"][:]
with h5py.File(f"{work}/all.h5") as all_, safe_open(f"{work}/all.safetensors", "numpy") as tensors:
    assert sorted(all_) == ["a", "b"] and all_["a"].dtype == np.float32, list(all_)
    assert json.loads(tensors.metadata()["cases"]) == ["a", "b"]
    for i, case in enumerate("ab"):
        whole = one("whole", case)
        assert whole.shape == (384,) and np.isfinite(whole).all()
        assert np.array_equal(whole, all_[case][:]) and np.array_equal(whole, tensors.get_tensor("embeddings")[i])
        assert np.abs(whole - one("around", case)).max() > 0.1, "a mask changes what is seen"
print("h5py and safetensors read the same vectors; a mask gives others")
PY
if [ -n "${PYTHON:-}" ] && "$PYTHON" -c "import nibabel, torch, transformers" 2> /dev/null; then
  "$PYTHON" tests/outside/embeddings/raptor.py "$host" examples/scans/chest_phantom.nii.gz "$BACKBONE" 2> /dev/null
else
  echo "skipped: no PYTHON with PyTorch, transformers and nibabel; raptor.py compares Raptor's vectors with theirs"
fi
