#!/usr/bin/env bash
# What `host run` writes, opened by nibabel and SimpleITK (check.py); their versions are in requirements.txt.
#
#   tests/outside/readers/check.sh [HOST]
#
# PYTHON names a Python that has them; else an environment is made below target/.
set -euo pipefail
cd "$(dirname "$0")/../../.."
host=${1:-target/release/host}
if [ -z "${PYTHON:-}" ]; then
  place=target/readers
  [ -x "$place/bin/python" ] || python3 -m venv "$place"
  PYTHON=$place/bin/python
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 -r tests/outside/readers/requirements.txt
fi
"$PYTHON" tests/outside/readers/check.py "$host" examples/scans/chest_phantom.nii.gz
