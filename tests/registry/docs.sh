#!/usr/bin/env bash
# Every command of the registry's pages, as it stands there: publishers first, then hospitals.
source "$(dirname "$0")/common.sh"
ln -s "$root/plugins" "$root/examples" "$root/LICENSE" .
mkdir -p target && ln -s "$target" target/release
mkdir bin && ln -s "$host" bin/host
export PATH=$PWD/bin:$PATH ANYMC3D_HOME=$scratch/author
for page in publishers hospitals; do
  step "docs/registry/$page.md"
  awk '/^```sh/ {f=1; next} /^```/ {f=0} f' "$root/docs/registry/$page.md" > "$page.sh"
  bash -euxo pipefail "$page.sh" < /dev/null
done
