#!/usr/bin/env bash
# What only the real binary can show: a golden case that does not come out, a library that is not what its plugin.toml
# says, a machine without the backbone, a disk that is full in the middle. Each is refused in its own words, and nothing is installed.
source "$(dirname "$0")/common.sh"
version 0.1.0
keys
export ANYMC3D_HOME=$scratch/home ANYMC3D_STORE=$scratch/store
"$host" registry init -q --name plugins.example --index-key index.key > /dev/null
publish=("$host" registry publish --from 0.1.0 --publisher "Example Lab" --key lab.key --index-key index.key)
trust
empty() { [ -z "$(find "${1:-$ANYMC3D_HOME}/plugins" -type f 2> /dev/null)" ] || fail "something was installed"; }

step "publish: a golden case that does not come out, a library of another plugin.toml, parts that are missing"
cp 0.1.0/golden/chest_phantom.json honest.json
sed -i 's/"logit": -\?[0-9.e-]*/"logit": 99.0/' 0.1.0/golden/chest_phantom.json
says 3 "its author got 99.000000, tolerance 0.001" "${publish[@]}" --plugin 0.1.0/liblung_nodule.so
cp honest.json 0.1.0/golden/chest_phantom.json
says 3 "the library was built with another plugin.toml" "${publish[@]}" --plugin "$target/liblung_nodule.so"
mv 0.1.0/README.md card.md
says 3 "no model card (README.md)" "${publish[@]}" --plugin 0.1.0/liblung_nodule.so
mv card.md 0.1.0/README.md
says 3 "weights: " "${publish[@]}" --plugin 0.1.0/liblung_nodule.so --weights "$scan"
says 0 "published lung_nodule 0.1.0" "${publish[@]}" --plugin 0.1.0/liblung_nodule.so

step "install: the backbone is not here"
mkdir bare && cp "$host" bare/host
( cd / && says 3 "needs backbone dinov2-small (af4e0ffa6d41), here: none" "$scratch/bare/host" registry install lung_nodule )
empty

step "install: the disk is full in the middle"
says_full() {
  local got=0
  "$@" > said 2>&1 || got=$?
  [ "$got" = 1 ] || { cat said >&2; fail "exit code $got, expected 1"; }
  grep -qE "No space left|File too large" said || { cat said >&2; fail "does not say that the disk is full"; }
  sed 's/^/   /' said | cut -c1-200
}
small=$scratch/small
mkdir "$small"
if mount -t tmpfs -o size=2600k tmpfs "$small" 2> /dev/null; then
  trap 'umount "$small"; end' EXIT
  for kilobytes in 64 2000 2500 4000 5000 5500; do
    mount -o remount,size=${kilobytes}k "$small"
    rm -rf "$small"/*
    export ANYMC3D_HOME=$small/home
    mkdir -p "$ANYMC3D_HOME/registry" && cp "$scratch"/home/registry/{trust,seen}.json "$ANYMC3D_HOME/registry/"
    echo "   $kilobytes kB:"
    says_full "$host" registry install lung_nodule@0.1.0
    empty
  done
  mount -o remount,size=64m "$small"
  says 0 "installed lung_nodule 0.1.0" "$host" registry install lung_nodule@0.1.0
else
  # No right to mount: a limit on the size of files instead.
  export ANYMC3D_HOME=$scratch/limited
  mkdir -p "$ANYMC3D_HOME/registry" && cp "$scratch"/home/registry/{trust,seen}.json "$ANYMC3D_HOME/registry/"
  for blocks in 100 1000 3000; do
    ( trap '' XFSZ; ulimit -f "$blocks"; says_full "$host" registry install lung_nodule@0.1.0 )
    empty
  done
fi
step "done"
