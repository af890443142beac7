#!/usr/bin/env bash
# The unsafe parts under AddressSanitizer: the kernels of every instruction set this processor has, the fused blocks and
# their backward pass, the operations behind the ABI, the ABI's own types. Not part of CI: it builds everything anew
# (about ten minutes of two cores). Takes a nightly compiler where there is one, else the stable one with unstable flags.
set -euo pipefail
cd "$(dirname "$0")/.."
toolchain=()
if rustup toolchain list 2>/dev/null | grep -q ^nightly; then toolchain=(+nightly); else export RUSTC_BOOTSTRAP=1; fi
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
run() { cargo "${toolchain[@]}" test --release --target "$target" --target-dir target/sanitize "$@"; }
run -p anymc3d-plugin-api --lib
run -p anymc3d-host --lib -- backbone:: plugin:: volume::
