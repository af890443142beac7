#!/usr/bin/env bash
# Builds the plugin and the host that are kept of an ABI version: tests/evolution/kept/{attention_probe,host}-VERSION.
# Run once, on the commit that freezes the version, on x86_64 Linux; never again for a version that is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^pub const ABI_VERSION_TEXT: &str = "\(.*\)";$/\1/p' plugin-api/src/abi/objects.rs)
kept=tests/evolution/kept
if [ -e "$kept/host-$version" ]; then
  echo "$kept/host-$version is there already, and what is kept is never built again" >&2
  exit 1
fi
export CARGO_PROFILE_RELEASE_OPT_LEVEL=z CARGO_PROFILE_RELEASE_LTO=true CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/kept}"
# Where it was built is nobody's business: panics name files without the machine's folders.
RUSTFLAGS="--remap-path-prefix=$PWD=."
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
  RUSTFLAGS+=" --remap-path-prefix=$sources=dependencies"
done
export RUSTFLAGS
cargo build --release -p attention_probe
cargo build --release --manifest-path tests/evolution/host/Cargo.toml
cp "$CARGO_TARGET_DIR/release/libattention_probe.so" "$kept/attention_probe-$version.so"
cp "$CARGO_TARGET_DIR/release/evolution_host" "$kept/host-$version"
sha256sum "$kept"/*-"$version"*
