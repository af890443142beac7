#!/usr/bin/env bash
# One binary that runs with and without an NVIDIA GPU, built on a machine that needs neither GPU nor toolkit.
#
#   cuda/build.sh                 leaves target/cuda/host
#
# Needs Rust, a C++ compiler and python3 with pip; fetches 100 MB of NVIDIA's compiler from PyPI into target/cuda. With a
# toolkit of your own see cuda/README.md. CUDA_COMPUTE_CAP says the oldest GPU that is to run it [80: Ampere and later].
set -euo pipefail
cd "$(dirname "$0")/.."
place=$PWD/target/cuda
toolkit=$place/toolkit/nvidia/cu13
mkdir -p "$place"

# 13.0 is the newest that drivers of the 580 series take.
if [ ! -x "$toolkit/bin/nvcc" ]; then
    python3 -m pip install --quiet --no-deps --upgrade --target "$place/toolkit" nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
    ln -sfn lib "$toolkit/lib64"
fi
# candle-kernels asks the linker for libcudart: it gets the static one, so that the binary starts without.
mkdir -p "$place/link"
echo "INPUT ( $toolkit/lib/libcudart_static.a -lrt -lpthread -ldl )" > "$place/link/libcudart.so"

# candle asks for libraries that are there when the binary starts; the same crate can ask for them when they are used.
cargo fetch --quiet
source=$(cargo metadata --format-version 1 --features anymc3d-host/cuda |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "candle-core"))')
if [ "$(cat "$place/candle-core.from" 2>/dev/null)" != "$source" ]; then
    rm -rf "$place/candle-core"
    cp -r "$(dirname "$source")" "$place/candle-core"
    sed -i 's/"dynamic-linking"/"dynamic-loading"/' "$place/candle-core/Cargo.toml"
    echo "$source" > "$place/candle-core.from"
fi
grep -q '"dynamic-loading"' "$place/candle-core/Cargo.toml"

# The lock file names candle-core's source; this build's is another.
cp Cargo.lock "$place/Cargo.lock"
trap 'cp "$place/Cargo.lock" Cargo.lock' EXIT
export CUDA_HOME=$toolkit PATH=$toolkit/bin:$PATH LIBRARY_PATH=$place/link:${LIBRARY_PATH:-}
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000}
cargo build --release -p anymc3d-host --features cuda --config "patch.crates-io.candle-core.path='$place/candle-core'"
cp target/release/host "$place/host"
ls -l "$place/host"
"$place/host" doctor
