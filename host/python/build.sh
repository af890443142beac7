#!/usr/bin/env bash
# The wheel `anymc3d`, from a fresh clone:
#
#     host/python/build.sh OUT             for Linux with glibc 2.28 or newer (zig links it)
#     host/python/build.sh OUT --native    for this machine's glibc or newer, on what `cargo build --release` left
#
# TARGET=aarch64-unknown-linux-gnu builds for another processor; its standard library comes by `rustup target add`.
# It holds the program `host`, the backbone that ships, three plugins with weights, manual pages, completions, the module.
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
  "$tools/bin/pip" install --quiet --disable-pip-version-check maturin==1.16.0 wheel==0.45.1 auditwheel==6.8.2 ziglang==0.17.1 cargo-zigbuild==0.24.0
fi
# As maturin sets it: the module links no libpython, and is not compiled a second time.
export PATH="$tools/bin:$PATH" CARGO_INCREMENTAL=0 PYO3_BUILD_EXTENSION_MODULE=1

# Those of synthetic scans. With the five of lung nodules the wheel would be 61 MB, and 60 are the most.
plugins=(lung_nodule brain_mri liver_injury)
packages=(-p anymc3d-cli -p anymc3d-python)
for plugin in "${plugins[@]}"; do
  packages+=(-p "$(sed -n 's/^name = "\(.*\)"/\1/p' "plugins/$plugin/Cargo.toml" | head -1)")
done

if [ "$mode" = --native ]; then
  # The default members too: each crate is then built with the features that `cargo build` gave it.
  cargo build --release --locked
  cargo build --release --locked -p anymc3d-python
  built=target/release
  # What is linked against a glibc runs with it and every later one.
  glibc=$(ldd --version | sed -n '1s/.* //p')
else
  # A digest says the same wherever it was built: no path of this machine, no time but the commit's.
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2> /dev/null || echo 1767225600)
  export SOURCE_DATE_EPOCH
  export RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$root=/anymc3d"
  # Across crates the linker finds what is there twice: two megabytes of the wheel, whose most are 60. It changes no number.
  export CARGO_PROFILE_RELEASE_LTO=thin
  glibc=2.28
  [ "$target" = "$here" ] || rustup target add "$target"
  cargo zigbuild --release --locked --target "$target.$glibc" "${packages[@]}"
  built=target/$target/release
fi

# maturin writes the metadata, `wheel` the archive: cargo has compiled all of it in one go above, and maturin's own build would
# compile every crate a second time.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
maturin pep517 write-dist-info --manifest-path host/python/Cargo.toml --metadata-directory "$stage" --interpreter "$tools/bin/python" 2> /dev/null
info=$(echo "$stage"/anymc3d-*.dist-info)
sed -i "s/^Tag: .*/Tag: cp310-abi3-manylinux_${glibc/./_}_${target%%-*}/" "$info/WHEEL"
mkdir -p "$info/licenses"
cp LICENSE "$info/licenses/"

# The module finds these beside itself, as the program finds them in a checkout.
package=$stage/anymc3d
mkdir -p "$package/_host" "$package/backbones"
cp host/python/python/anymc3d/*.py host/python/python/anymc3d/*.pyi host/python/python/anymc3d/py.typed "$package/"
cp "$built/lib_native.so" "$package/_native.abi3.so"
cp "$built/host" "$package/_host/"
for plugin in "${plugins[@]}"; do
  cp "$built/lib$plugin.so" "plugins/$plugin/$plugin.safetensors" "$package/_host/"
done
cp -r backbones/dinov2-small backbones/README.md "$package/backbones/"
chmod -R u=rwX,go=rX "$stage"

# A program for another processor cannot write its pages here: those of this machine's build say the same.
pages=$built/host
[ "$target" = "$here" ] || pages=target/release/host
if [ -x "$pages" ]; then
  share=${info%.dist-info}.data/data/share
  mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
  "$pages" --quiet man --out "$share/man/man1" > /dev/null
  "$pages" completions bash > "$share/bash-completion/completions/host"
  "$pages" completions zsh > "$share/zsh/site-functions/_host"
  "$pages" completions fish > "$share/fish/vendor_completions.d/host.fish"
fi

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
wheel pack "$stage" --dest-dir "$out" > /dev/null
made=$(ls -t "$out"/anymc3d-*.whl | head -1)
auditwheel show "$made" | grep -A1 consistent || true
echo "$made: $(($(stat -c %s "$made") / 1000000)) MB; module $(sha256sum < "$package/_native.abi3.so" | cut -c1-16), program $(sha256sum < "$package/_host/host" | cut -c1-16)"
