#!/usr/bin/env bash
# The unsafe parts under a memory checker: the kernels, the fused blocks and their backward pass, the operations behind the
# ABI, the ABI's own types. Not part of CI.
#
#   tests/sanitize.sh             valgrind: portable and AVX2 (it knows no AVX-512); ten minutes
#   tests/sanitize.sh address     AddressSanitizer: every instruction set this processor has; builds everything anew
#
# What lies behind the buffers of every kernel of every instruction set is also guarded by pages that cannot be touched, in
# the ordinary tests. AddressSanitizer takes a nightly compiler where there is one, else the stable one with unstable flags.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-valgrind}" = address ]; then
    toolchain=()
    if rustup toolchain list 2>/dev/null | grep -q ^nightly; then toolchain=(+nightly); else export RUSTC_BOOTSTRAP=1; fi
    target=$(rustc -vV | sed -n 's/^host: //p')
    export RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
    run() { cargo "${toolchain[@]}" test --release --target "$target" --target-dir target/sanitize "$@"; }
else
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9 --num-callers=12"
    run() { cargo test --release "$@"; }
fi
run -p anymc3d-plugin-api --lib -- abi::
run -p anymc3d-host --lib -- backbone:: plugin:: scan::
