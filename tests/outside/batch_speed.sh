#!/usr/bin/env bash
# `host batch` beside `host run FOLDER` and one call per scan, on the same scans, with heatmaps, in one sitting; and how much of
# a batch's time its backbone has. Figures count on a machine that does nothing else.
#
# Needs `cargo build --release`. SCANS are taken in turn until there are N of them, each under a name of its own.
#   tests/outside/batch_speed.sh [N] [HOST] [SCANS…]      N: 40. HOST: target/release/host. SCANS: ../shared/data/example_ct_sm.nii.gz
#   ROUNDS=4 tests/outside/batch_speed.sh                 rounds in turn; the median of each counts
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
n=${1:-40}
host=$(realpath "${2:-$root/target/release/host}")
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- "$root/../shared/data/example_ct_sm.nii.gz"
for scan in "$@"; do [ -e "$scan" ] || { echo "skipped: no $scan"; exit 0; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/scans"
scans=("$@")
for ((i = 0; i < n; i++)); do
  scan=${scans[$((i % ${#scans[@]}))]}
  name=${scan##*/}
  cp "$scan" "$work/scans/$(printf 's%02d' "$i").${name#*.}"
done
echo "$n scans, $(nproc) cores, load before: $(cut -d' ' -f1-3 /proc/loadavg)"
now() { date +%s.%N; }
lung=(--plugin lung_nodule)
cd "$root"
one() { # KIND ROUND
  local start out=$work/$1$2
  start=$(now)
  case $1 in
    batch) "$host" batch "${lung[@]}" "$work/scans" --out "$out" --quiet ;;
    run) "$host" run "${lung[@]}" "$work/scans" --out "$out" --quiet > /dev/null ;;
    single)
      for scan in "$work"/scans/*; do
        "$host" run "${lung[@]}" "$scan" --out "$out" --quiet > /dev/null
      done
      ;;
  esac
  echo "$1 $start $(now) $out" >> "$work/times"
}
for ((round = 1; round <= ${ROUNDS:-4}; round++)); do
  # What goes first finds other files in the cache and another clock: they take turns.
  if ((round % 2)); then order="batch run"; else order="run batch"; fi
  for kind in $order single; do one "$kind" "$round"; done
done
python3 - "$work/times" << 'END'
import collections, glob, json, pathlib, statistics, sys

walls, shares = collections.defaultdict(list), []
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    kind, start, end, folder = line.split()
    walls[kind].append(float(end) - float(start))
    assert glob.glob(f"{folder}/*/lung_nodule/heatmap.nii.gz"), folder
    if kind == "batch":
        results = [json.loads(pathlib.Path(f).read_text()) for f in glob.glob(f"{folder}/*/lung_nodule/result.json")]
        backbone = sum(result["timing_ms"]["backbone"] for result in results) / 1000
        lines = [json.loads(line) for f in glob.glob(f"{folder}/.batch/journal/*.jsonl") for line in open(f)]
        cases = sum(line.get("seconds") or 0 for line in lines)
        shares.append((backbone, cases))
median = {kind: statistics.median(times) for kind, times in walls.items()}
for kind, times in walls.items():
    print(f"{kind:7} {median[kind]:8.2f} s   of", " ".join(f"{t:.2f}" for t in times))
print(f"run / batch: {median['run'] / median['batch']:.3f} (1 or more: batch is at least as fast)")
print(f"single calls / batch: {median['single'] / median['batch']:.2f}")
for backbone, cases in shares:
    print(f"batch: {cases:.2f} s from the first case to the last, backbone {backbone:.2f} s: {100 * (cases / backbone - 1):+.1f} % (bar: 3 %)")
END
