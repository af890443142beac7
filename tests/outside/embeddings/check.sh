#!/usr/bin/env bash
# What `host embed --table` writes, in the readers of others: HDF5 in h5py, safetensors, the challenge's script; a classifier on features
# whose predictions join a benchmark (examples/baselines/features.py); and Raptor's vectors beside NumPy, PyTorch and transformers
# (raptor.py), where PYTHON has them.
#
#   tests/outside/embeddings/check.sh [HOST]
#
# PYTHON names a Python with h5py, numpy, safetensors and scikit-learn; else an environment is made below target/.
set -euo pipefail
cd "$(dirname "$0")/../../.."
host=$(realpath "${1:-target/release/host}")
if [ -z "${PYTHON:-}" ] || ! "$PYTHON" -c "import h5py, sklearn" 2> /dev/null; then
  place=target/embeddings
  [ -x "$place/bin/python" ] || python3 -m venv "$place"
  python=$place/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 h5py==3.16.0 numpy safetensors scikit-learn
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
# 60 cases in three folds whose label `easy` is the sign of a feature and whose label `noise` is nothing of them.
"$python" - "$work" <<'PY'
import csv, json, sys
import numpy as np
from safetensors.numpy import save_file
draw, work = np.random.default_rng(1), sys.argv[1]
x = draw.normal(size=(60, 24)).astype(np.float32)
cases = [f"case{i}" for i in range(60)]
save_file({"embeddings": x[::-1].copy()}, f"{work}/f.safetensors", {"cases": json.dumps(cases[::-1])})
with open(f"{work}/folds.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["case", "patient", "fold", "easy", "noise", "image.axial"])
    for i, case in enumerate(cases):
        writer.writerow([case, case, i % 3 + 1, int(x[i, 5] > 0), "" if i < 3 else draw.integers(2), "x.nii"])
PY
"$python" examples/baselines/features.py "$work/folds.csv" "$work/f.safetensors" "$work/p.csv"
"$host" eval --predictions "$work/p.csv" --out "$work/figures" --json > "$work/figures.json"
"$python" - "$work" <<'PY'
import json, sys
labels = json.load(open(f"{sys.argv[1]}/figures.json"))["labels"]
easy, noise = labels["easy"]["auroc"], labels["noise"]["auroc"]
assert easy > 0.85 > 0.75 > noise, (easy, noise)
print(f"features.py: AUROC {easy:.2f} where a feature tells, {noise:.2f} where none does")
PY
if [ -n "${PYTHON:-}" ] && "$PYTHON" -c "import nibabel, torch, transformers" 2> /dev/null; then
  "$PYTHON" tests/outside/embeddings/raptor.py "$host" examples/scans/chest_phantom.nii.gz "$BACKBONE" 2> /dev/null
else
  echo "skipped: no PYTHON with PyTorch, transformers and nibabel; raptor.py compares Raptor's vectors with theirs"
fi
