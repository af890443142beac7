#!/usr/bin/env bash
# Could plugin-api and its two crates be published as they are? Packages them, and compares plugin-api's public API with 1.0's.
# Needs the standard toolchain and Python 3. Run by CI.
set -euo pipefail
cd "$(dirname "$0")/../.."
crates=(-p anymc3d-manifest -p anymc3d-plugin-macros -p anymc3d-plugin-api)

# Packs the three together, and uploads nothing: none of them is on a registry yet, so that each is built against the packed others. Builds them from
# what was packed, as whoever downloads them would. PUBLISH_VERIFY=0 leaves the building out.
verify=()
[ "${PUBLISH_VERIFY:-1}" = 1 ] || verify=(--no-verify)
cargo publish --dry-run --allow-dirty "${verify[@]}" "${crates[@]}"
for crate in anymc3d-manifest anymc3d-plugin-macros anymc3d-plugin-api; do
  files=$(cargo package --allow-dirty --list -p "$crate")
  grep -qx 'src/lib.rs' <<< "$files"
  # What lies beside a crate and is none of its own does not travel in it.
  if grep -E '(^|/)(target|kept)/|\.(so|safetensors)$' <<< "$files"; then
    echo "$crate: packs what is no source" >&2
    exit 1
  fi
done

# cargo-semver-checks takes more than a quarter of an hour to build and reads unstable output of rustdoc: the listing is compared
# instead, from the pages that every rustdoc writes.
cargo doc --release --no-deps --lib -p anymc3d-plugin-api --features testkit
python3 tests/evolution/api_listing.py compare tests/evolution/kept/api-1.0.txt \
  "${CARGO_TARGET_DIR:-target}/doc/anymc3d_plugin_api"
