#!/usr/bin/env bash
# The wheel `anymc3d`, from a fresh clone:
#
#     host/python/build.sh OUT             for Linux with glibc 2.28 or newer (zig links it)
#     host/python/build.sh OUT --native    for this machine's glibc or newer, on what `cargo build --release` left
#
# TARGET=aarch64-unknown-linux-gnu builds for another processor; its standard library comes by `rustup target add`.
# It holds the program `host`, the backbone that ships, every plugin with weights, manual pages, completions, the module.
set -euo pipefail

out=${1:?usage: host/python/build.sh OUT [--native]}
mode=${2:-}
mkdir -p "$out"
out=$(cd "$out" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
python=${PYTHON:-python3}
here=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$here}

# Versions are pinned: the wheel depends on them.
tools=$root/target/tools/wheel
if [ ! -x "$tools/bin/maturin" ]; then
  "$python" -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check maturin==1.16.0 ziglang==0.17.1 cargo-zigbuild==0.24.0
fi
# As maturin sets it: the module links no libpython, and is not compiled a second time.
export PATH="$tools/bin:$PATH" CARGO_INCREMENTAL=0 PYO3_BUILD_EXTENSION_MODULE=1

# With a plugin's weights in the repository it can answer; the others are examples of code.
plugins=()
for weights in plugins/*/*.safetensors; do
  plugins+=("$(basename "$(dirname "$weights")")")
done
packages=(-p anymc3d-cli -p anymc3d-python)
for plugin in "${plugins[@]}"; do
  packages+=(-p "$(sed -n 's/^name = "\(.*\)"/\1/p' "plugins/$plugin/Cargo.toml" | head -1)")
done

maturin=(build --release --locked --manifest-path host/python/Cargo.toml --out "$out" --interpreter "$python")
if [ "$mode" = --native ]; then
  # The default members too: each crate is then built with the features that `cargo build` gave it.
  cargo build --release --locked
  cargo build --release --locked -p anymc3d-python
  built=target/release
  maturin+=(--auditwheel repair)
else
  # A digest says the same wherever it was built: no path of this machine, no time but the commit's.
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2> /dev/null || echo 1767225600)
  export SOURCE_DATE_EPOCH
  export RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$root=/anymc3d"
  glibc=2.28
  [ "$target" = "$here" ] || rustup target add "$target"
  cargo zigbuild --release --locked --target "$target.$glibc" "${packages[@]}"
  built=target/$target/release
  maturin+=(--zig --target "$target" --compatibility manylinux_2_28)
fi

# What the module finds beside itself: python/anymc3d/_host and backbones, as above an executable in a checkout.
package=host/python/python/anymc3d
rm -rf "$package/_host" "$package/backbones" host/python/anymc3d.data
mkdir -p "$package/_host" "$package/backbones"
cp "$built/host" "$package/_host/"
for plugin in "${plugins[@]}"; do
  cp "$built/lib$plugin.so" "plugins/$plugin/$plugin.safetensors" "$package/_host/"
done
cp -r backbones/dinov2-small "$package/backbones/"
cp backbones/README.md "$package/backbones/"
# A program for another processor cannot write its pages here: those of this machine's build say the same.
pages=$built/host
[ "$target" = "$here" ] || pages=target/release/host
if [ -x "$pages" ]; then
  share=host/python/anymc3d.data/data/share
  mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
  "$pages" --quiet man --out "$share/man/man1" > /dev/null
  "$pages" completions bash > "$share/bash-completion/completions/host"
  "$pages" completions zsh > "$share/zsh/site-functions/_host"
  "$pages" completions fish > "$share/fish/vendor_completions.d/host.fish"
fi

maturin "${maturin[@]}"
for wheel in "$out"/anymc3d-*.whl; do
  bytes=$(stat -c %s "$wheel")
  echo "$wheel: $((bytes / 1000000)) MB"
done
