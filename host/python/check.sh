#!/usr/bin/env bash
# The wheel in an empty environment: what it answers, its types, its docstrings, the examples and the notebooks.
#
#     host/python/check.sh [WHEEL]
#
# Without WHEEL it builds one on what `cargo build --release` left. Packages come from PyPI. $TORCH_SITE, a site-packages folder
# with torch, transformers and peft, adds the comparisons with PyTorch.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

wheel=${1:-}
if [ -z "$wheel" ]; then
  host/python/build.sh "$scratch/wheel" --native
  wheel=$(echo "$scratch"/wheel/anymc3d-*.whl)
fi

"${PYTHON:-python3}" -m venv "$scratch/venv"
pip="$scratch/venv/bin/pip --quiet --disable-pip-version-check"
$pip install "$wheel"
export ANYMC3D_HOME="$scratch/home" ANYMC3D_REPOSITORY="$root"
# As in an environment that was activated: the notebooks call the program too.
export PATH="$scratch/venv/bin:$PATH"
(cd "$scratch" && venv/bin/host run --plugin lung_nodule "$root/examples/scans/chest_phantom.nii.gz" --out answer)
test -s "$scratch/answer/chest_phantom/lung_nodule/result.json"
"$scratch/venv/bin/python" -X importtime -c 'import anymc3d' 2>&1 | awk -F'|' '/ anymc3d$/ { printf "import anymc3d: %.3f s\n", $2 / 1e6 }'

$pip install pytest mypy pandas pandas-stubs scikit-learn nibabel SimpleITK pydicom matplotlib nbmake ipykernel
if [ -n "${TORCH_SITE:-}" ]; then
  echo "$TORCH_SITE" > "$(echo "$scratch"/venv/lib/python*/site-packages)/torch_site.pth"
fi
cp -r host/python/tests host/python/pyproject.toml examples/python examples/notebooks "$scratch/"
cd "$scratch"
venv/bin/python -m mypy --config-file pyproject.toml -p anymc3d
venv/bin/python -m mypy --config-file pyproject.toml tests python
venv/bin/python -m pytest -p no:cacheprovider tests --durations=5
venv/bin/python -m pytest -p no:cacheprovider --nbmake --nbmake-timeout=300 notebooks
