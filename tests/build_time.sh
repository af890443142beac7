#!/usr/bin/env bash
# What the README's two commands take from an empty target folder, wall and processor-seconds; on a quiet machine.
#
#   tests/build_time.sh [CHECKOUT…]     default: this one. Two checkouts are measured one after the other
#
# Builds in a folder of its own, removed at the end; the registry's cache stays. KEEP=1 keeps the folder and writes where
# the time of the first command went (cargo's --timings) into it.
set -euo pipefail
this=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || set -- "$this"
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
for checkout in "$@"; do
  checkout=$(cd "$checkout" && pwd)
  place=$(mktemp -d)
  # A clone: nothing that was built or left in the checkout is seen.
  git clone --quiet --shared "$checkout" "$place/clone"
  cd "$place/clone"
  export ANYMC3D_DATA=${ANYMC3D_DATA:-$checkout/../shared/data}
  [ -d "$ANYMC3D_DATA" ] || unset ANYMC3D_DATA
  cargo fetch --quiet --locked
  commands=$(awk '/^## Two commands/ {on=1} on && /^## / && !/Two commands/ {on=0} on' README.md | awk '/^```sh/ {f=1; next} /^```/ {f=0} f')
  printf '%s at %s\n' "$checkout" "$(git rev-parse --short HEAD)"
  while IFS= read -r -u 3 command; do
    [ -n "$command" ] || continue
    TIMEFORMAT='%R s wall, %U s user + %S s system'
    [ -z "${KEEP:-}" ] || command=${command/#cargo build/cargo build --timings}
    failed=0
    { time bash -c "$command" < /dev/null > "$place/log" 2>&1 || failed=$?; } 2> "$place/time"
    printf '  %s\n    %s\n' "$(cat "$place/time")" "$command"
    [ "$failed" = 0 ] || { tail -40 "$place/log" >&2; exit "$failed"; }
  done 3<<< "$commands"
  cd "$this"
  if [ -n "${KEEP:-}" ]; then echo "  kept: $place"; else rm -rf "$place"; fi
done
