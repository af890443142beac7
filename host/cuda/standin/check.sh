#!/usr/bin/env bash
# The way of a GPU, on a machine that has none: candle's own kernels on the processor, behind the names of CUDA's libraries.
#
#   host/cuda/standin/check.sh         the tests that take seconds; after host/cuda/build.sh
#   host/cuda/standin/check.sh all     every test that calls the program as well, and training against PyTorch: half an hour
set -euo pipefail
cd "$(dirname "$0")/../../.."
host/cuda/standin/build.sh
# Beside the plugins, as the tests expect it.
mkdir -p target/release
cp target/cuda/host target/release/host-cuda
export LD_LIBRARY_PATH=$PWD/target/cuda/standin:${LD_LIBRARY_PATH:-} ANYMC3D_HOST=$PWD/target/release/host-cuda
target/cuda/host doctor | grep stand-in

# In one process with a GPU: golden numbers from PyTorch, every operation of the table, gradients.
long=(--skip six_training_steps)
[ "${1:-}" = all ] && long=()
host/cuda/build.sh test --release -p anymc3d-tests --features anymc3d-host/cuda --test parity -- parity_backbone:: parity_plugin:: "${long[@]}"
host/cuda/build.sh test --release -p anymc3d-tests --features anymc3d-host/cuda --test plugins -- test_kit::
host/cuda/build.sh test --release -p anymc3d-host --features cuda --lib -- device:: backbone::tests::on_device plugin::tests

# The program itself, which takes the GPU where it finds one.
programs=(full_device::)
[ "${1:-}" = all ] && programs+=(command_line:: evaluation:: isolation:: segmentation:: sequences:: third_party:: training::)
cargo test --release -p anymc3d-tests --test commands --test plugins -- "${programs[@]}"
