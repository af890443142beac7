#!/usr/bin/env bash
# A rehearsal of scale: many cases that share a few hundred small scans through the cheapest task. Listing, a kill -9 at 90 %,
# what the same call does then, merging: seconds and MB each, and the process's memory while it works.
#
# Needs `cargo build --release --workspace --example small_cohort`. It runs at nice 19; docs/batch.md has recorded results.
#   tests/outside/scale/rehearse.sh [CASES] [HOST] [SMALL_COHORT]
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
cases=${1:-100000}
host=${2:-$root/target/release/host}
small=${3:-$root/target/release/examples/small_cohort}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$small" "$work/cohort" 300 15 "$cases"
call=(nice -n 19 "$host" batch --plugin "$work/cohort/probe.so" --backbone "$root/tests/fixtures/dinov2_registers" --threads 1
  --heatmap=false --manifest "$work/cohort/cases.csv" --out "$work/out")
seconds() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f s", b - a }'; }
rss() { awk '/VmRSS/ { printf "%d", $2 / 1024 }' "/proc/$1/status" 2> /dev/null || true; }
count() { { cat "$work"/out/.batch/journal/*.jsonl 2> /dev/null || true; } | wc -l; }

begun=$(seconds)
"${call[@]}" --list
echo "list: $(since "$begun"), work.csv $(du -m "$work/out/work.csv" | cut -f1) MB"

begun=$(seconds)
"${call[@]}" > /dev/null 2>&1 &
pid=$!
while kill -0 $pid 2> /dev/null; do
  done_now=$(count)
  echo "$(since "$begun") $done_now $(rss $pid)" >> "$work/memory"
  if [ "$done_now" -ge $((cases * 9 / 10)) ]; then
    kill -9 $pid
    break
  fi
  sleep 2
done
wait $pid 2> /dev/null || true
echo "killed with -9 after $(count) cases, $(since "$begun")"
echo "resident MB at 10, 20, … % of the cases:"
for tenth in 1 2 3 4 5 6 7 8 9; do
  awk -v at=$((cases * tenth / 10 - cases / 100)) '$3 >= at { printf " %s", $4; exit }' "$work/memory"
done
echo

begun=$(seconds)
"${call[@]}" --progress none > /dev/null 2> "$work/second" &
pid=$!
until grep -q "cases are done" "$work/second" || ! kill -0 $pid 2> /dev/null; do sleep 0.1; done
echo "resume: what is done was known after $(since "$begun"): $(grep "cases are done" "$work/second" || true)"
wait $pid || true
echo "resume: $(since "$begun") to the end, $(count) entries in the journals"

begun=$(seconds)
nice -n 19 "$host" merge "$work/out" > "$work/merged" &
pid=$!
most=0
while kill -0 $pid 2> /dev/null; do now=$(rss $pid); [ "${now:-0}" -gt "$most" ] && most=$now; sleep 0.2; done
echo "merge: $(since "$begun"), $most MB resident at most"
cat "$work/merged"
rows=$(($(wc -l < "$work/out/predictions.csv") - 1))
twice=$(tail -n +2 "$work/out/runs.csv" | cut -d, -f1 | sort | uniq -d | wc -l)
echo "$rows rows, predictions.csv $(du -m "$work/out/predictions.csv" | cut -f1) MB, runs.csv $(du -m "$work/out/runs.csv" | cut -f1) MB; $twice cases done twice; the folder takes $(du -sm "$work/out" | cut -f1) MB"
[ "$rows" -eq "$cases" ] && [ "$twice" -eq 0 ]
