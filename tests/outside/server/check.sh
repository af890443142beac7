#!/usr/bin/env bash
# `host serve` from outside: kill -9, load, TLS, the page in Chromium, the commands of docs/server.md, novelty, archives, and
# tritonclient's own calls.
#     tests/outside/server/check.sh [JOBS OF THE LOAD]
# Takes the binary $HOST_SERVER, or builds one. Without tritonclient (PyPI) its part is skipped.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=tests/outside/server
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1

if [ -z "${HOST_SERVER:-}" ]; then
  cargo build --release --workspace --features anymc3d-cli/server
  cp target/release/host "$scratch/host"
  HOST_SERVER=$scratch/host
fi
# The plugins that the checks ask, as tests build them.
cargo build --release --workspace --example server_bench
mkdir "$scratch/bench"
backbone=$(target/release/examples/server_bench "$scratch/bench")

echo "-- kill -9"
python3 "$here/kill.py" "$HOST_SERVER" "$scratch/bench" "$backbone"
echo "-- load"
python3 "$here/load.py" "$HOST_SERVER" "$scratch/bench" "$backbone" "${1:-100}"
echo "-- TLS and tokens"
python3 "$here/tls.py" "$HOST_SERVER" "$scratch/bench" "$backbone"
echo "-- the page, in Chromium"
"$here/page.sh" "$HOST_SERVER" "$scratch/bench" "$backbone"
echo "-- the commands of docs/server.md"
python3 "$here/docs.py" "$HOST_SERVER"
echo "-- how far scans lie from the training cases: chests, abdomens, heads, noise"
readers=${PYTHON:-python3}
if ! "$readers" -c 'import pydicom, highdicom' 2> /dev/null; then
  python3 -m venv "$scratch/readers"
  readers=$scratch/readers/bin/python
  "$readers" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 pydicom==3.0.2 highdicom==0.28.2 || true
fi
if "$readers" -c 'import numpy' 2> /dev/null; then
  "$readers" tests/outside/drift.py "$HOST_SERVER" target/release/liblung_nodule.so plugins/lung_nodule/lung_nodule.safetensors --short
else
  echo "skipped: no NumPy"
fi
echo "-- an archive (Orthanc) over DICOMweb, and C-STORE both ways (dcmtk)"
"$here/orthanc.sh" "$HOST_SERVER" "$readers"
"$here/dimse.sh" "$HOST_SERVER" "$readers"
echo "-- tritonclient"
python=${PYTHON:-$scratch/venv/bin/python}
if [ -z "${PYTHON:-}" ] || ! "$python" -c 'import tritonclient.http' 2> /dev/null; then
  python3 -m venv "$scratch/venv"
  python=$scratch/venv/bin/python
  if ! "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 'tritonclient[http]==2.73.0'; then
    echo "skipped: tritonclient cannot be fetched"
    exit 0
  fi
fi
"$python" "$here/tritonclient_calls.py" "$HOST_SERVER" "$scratch/bench" "$backbone"
