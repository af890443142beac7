#!/usr/bin/env bash
# examples/deploy/snakemake/Snakefile through a real Snakemake: 40 small scans of which 3 are corrupt, in 4 shards.
#
# Needs `snakemake` from PyPI (9.27 was used) and `cargo build --release --workspace --example small_cohort`.
#   tests/outside/snakemake/check.sh [HOST] [SMALL_COHORT] [SNAKEMAKE]
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
host=$(realpath "${1:-$root/target/release/host}")
small=$(realpath "${2:-$root/target/release/examples/small_cohort}")
snakemake=${3:-snakemake}
command -v "$snakemake" > /dev/null || { echo "skipped: no snakemake (pip install snakemake)"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$small" "$work/cohort" 40 3
cd "$work"
"$snakemake" --version
run() {
  "$snakemake" --snakefile "$root/examples/deploy/snakemake/Snakefile" --cores 2 --quiet rules \
    --config host="$host" plugin="$work/cohort/probe.so" cohort="$work/cohort/scans" out="$work/results" shards=4 \
    options="--backbone $root/tests/fixtures/dinov2_registers" "$@"
}
run
"$host" batch --plugin cohort/probe.so --backbone "$root/tests/fixtures/dinov2_registers" cohort/scans --out one --quiet 2> /dev/null || test $? -eq 1
"$host" merge one > /dev/null
cmp one/predictions.csv results/predictions.csv
rows=$(grep -c 'mean_probe: ' results/predictions.csv)
[ "$rows" -eq 3 ] || { echo "FAILED: $rows rows with a reason, expected 3" >&2; exit 1; }
again=$(run 2>&1)
grep -q "Nothing to be done" <<< "$again" || { echo "FAILED: a second call does something: $again" >&2; exit 1; }
echo "40 rows, equal to those of one process; 3 with a reason; a second call finds nothing to be done"
