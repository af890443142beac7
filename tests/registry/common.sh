# What the registry's scripts share: a scratch folder, two small versions of a plugin, keys, checks. To be sourced.
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/release
host=$target/host
scan=$root/examples/scans/chest_phantom.nii.gz
scratch=$(mktemp -d)
ended=()
end() { for id in "${ended[@]}"; do kill "$id" 2> /dev/null || true; wait "$id" 2> /dev/null || true; done; rm -rf "$scratch"; }
trap end EXIT
cd "$scratch"

step() { printf '\n-- %s\n' "$*"; }
fail() { printf 'failed: %s\n' "$*" >&2; exit 1; }

# says CODE WORDS COMMAND…: the exit code, and words on either stream
says() {
  local code=$1 words=$2 got=0
  shift 2
  "$@" > said 2>&1 || got=$?
  [ "$got" = "$code" ] || { cat said >&2; fail "exit code $got, expected $code: $*"; }
  grep -qF -- "$words" said || { cat said >&2; fail "does not say \`$words\`: $*"; }
  sed 's/^/   /' said | cut -c1-200
}

# version 0.1.0: the shipped plugin and weights, with few and small slices so that a run takes a moment; the manifest
# inside the library is edited in place, and so is the version in the weights.
version() {
  local small=(-e "s/version = \"0.1.0\"/version = \"$1\"/" -e 's/slices = 40/slices =  4/' -e 's/size = \[168, 168\]/size = [ 56,  56]/')
  mkdir -p "$1"
  sed "${small[@]}" "$root/plugins/lung_nodule/plugin.toml" > "$1/plugin.toml"
  sed "${small[@]}" "$target/liblung_nodule.so" > "$1/liblung_nodule.so"
  sed "s/plugin_version\\\\\":\\\\\"0.1.0/plugin_version\\\\\":\\\\\"$1/" "$root/plugins/lung_nodule/lung_nodule.safetensors" > "$1/lung_nodule.safetensors"
  cp "$root/plugins/lung_nodule/README.md" "$root/LICENSE" "$1/"
  "$host" plugin golden --plugin "$1/liblung_nodule.so" "$scan" --out "$1/golden" > /dev/null
}

# The backbone of the checkout, for homes that have none: it is found above the executable.
keys() {
  "$host" registry keygen -q --name "Example Lab" --out lab --no-password > /dev/null
  "$host" registry keygen -q --name plugins.example --out index --no-password > /dev/null
}
trust() {
  "$host" registry trust add "Example Lab" lab.pub > /dev/null
  "$host" registry trust add --registry plugins.example index.pub > /dev/null
}
