#!/usr/bin/env bash
# One binary that runs with and without an NVIDIA GPU, built on a machine that needs neither GPU nor toolkit.
#
#   host/cuda/build.sh                 leaves target/cuda/host
#   host/cuda/build.sh test --release -p anymc3d-host --features cuda --lib
#                                 any other command of cargo, with the same compiler and the same copies
#
# Needs Rust, a C++ compiler and python3 with pip; fetches 100 MB of NVIDIA's compiler from PyPI into target/cuda. With a
# toolkit of your own see host/cuda/README.md. CUDA_COMPUTE_CAP says the oldest GPU that is to run it [80: Ampere and later].
set -euo pipefail
cd "$(dirname "$0")/../.."
this=$PWD/host/cuda/build.sh # what it does to the copies is part of what they are
place=$PWD/target/cuda
toolkit=$place/toolkit/nvidia/cu13
mkdir -p "$place"

# 13.0 is the newest that drivers of the 580 series take.
if [ ! -x "$toolkit/bin/nvcc" ]; then
    python3 -m pip install --quiet --no-deps --upgrade --target "$place/toolkit" nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
fi

# A copy of one of candle's crates as the lock file names it, changed by the command that follows.
copy() {
    local crate=$1 source
    shift
    source=$(cargo metadata --format-version 1 --features anymc3d-host/cuda | python3 -c '
import json, os, sys
print(next(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == sys.argv[1]))' "$crate")
    local from="$source $(sha256sum < "$this")"
    if [ "$(cat "$place/$crate.from" 2>/dev/null)" != "$from" ]; then
        rm -rf "${place:?}/$crate"
        cp -r "$source" "$place/$crate"
        (cd "$place/$crate" && "$@")
        echo "$from" > "$place/$crate.from"
    fi
}

# candle asks for libraries that are there when the binary starts; cudarc can ask for them when they are used.
when_used() {
    sed -i 's/"dynamic-linking"/"dynamic-loading"/' Cargo.toml
    grep -q '"dynamic-loading"' Cargo.toml
}

# Kernels of quantised language models are most of the time and half of the size, and need CUDA's runtime. Nothing here calls
# them: the linker would say what does.
without_quantised() {
    sed -i '/let mut moe_sources/,/^    Ok(())/{/^    Ok(())/!d}' build.rs
    if grep -q moe_sources build.rs; then return 1; fi
    : > src/quantized.cu
}

cargo fetch --quiet
copy candle-core when_used
copy candle-kernels without_quantised

# The lock file names candle's own sources; this build's are others.
cp Cargo.lock "$place/Cargo.lock"
trap 'cp "$place/Cargo.lock" Cargo.lock' EXIT
export CUDA_HOME=$toolkit PATH=$toolkit/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000}
with_copies=(--config "patch.crates-io.candle-core.path='$place/candle-core'"
    --config "patch.crates-io.candle-kernels.path='$place/candle-kernels'")
if [ $# -gt 0 ]; then
    cargo "${with_copies[@]}" "$@"
    exit
fi
cargo "${with_copies[@]}" build --release -p anymc3d-cli --features cuda
cp target/release/host "$place/host"
ls -l "$place/host"
"$place/host" doctor
