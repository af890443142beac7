#!/usr/bin/env bash
# A batch with its scans and its records in S3, over the real protocol on loopback: `moto` from PyPI (5.2 was used) serves it,
# a proxy in between cuts connections in the middle of a put. 40 small scans of which 3 are corrupt.
#
# Needs a host with the feature, and the cohort: cargo build --release --workspace --features anymc3d-cli/object-store &&
# cargo build --release --workspace --example small_cohort.
#   tests/outside/s3/check.sh [HOST] [SMALL_COHORT] [PYTHON]    PYTHON has moto[server] and boto3
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
host=$(realpath "${1:-$root/target/release/host}")
small=$(realpath "${2:-$root/target/release/examples/small_cohort}")
python=${3:-python3}
"$python" -c 'import moto.server, boto3' 2> /dev/null || { echo "skipped: no moto and boto3 (pip install 'moto[server]' boto3)"; exit 0; }
work=$(mktemp -d)
children=()
end() {
  for child in "${children[@]}"; do kill "$child" 2> /dev/null || true; done
  rm -rf "$work"
}
trap end EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
port() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

server=$(port) proxy=$(port)
echo pass > "$work/orders"
"$python" -m moto.server -H 127.0.0.1 -p "$server" > "$work/server.log" 2>&1 &
children+=($!)
"$python" "$root/tests/outside/s3/cutting_proxy.py" "$proxy" "$server" "$work/orders" > "$work/proxy.log" &
children+=($!)
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1 AWS_ALLOW_HTTP=true
export AWS_ENDPOINT_URL=http://127.0.0.1:$proxy
s3() { # runs Python with `s3`, past the proxy
  "$python" - "$@" << END
import boto3, sys, time
for _ in range(100):
    try:
        s3 = boto3.client("s3", endpoint_url="http://127.0.0.1:$server", region_name="us-east-1")
        s3.list_buckets()
        break
    except Exception:
        time.sleep(0.2)
def names(prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="cohort", Prefix=prefix)
    return [o["Key"] for page in pages for o in page.get("Contents", [])]
$(cat)
END
}

"$small" "$work/cohort" 40 3
s3 << END
import pathlib
s3.create_bucket(Bucket="cohort")
for path in sorted(pathlib.Path("$work/cohort/scans").iterdir()):
    s3.upload_file(str(path), "cohort", "in/" + path.name)
END
cd "$work"
backbone=$root/tests/fixtures/dinov2_registers
batch() { "$host" batch --plugin cohort/probe.so --backbone "$backbone" "$@"; }
run() { # code INPUT…: the exit code is as expected
  local expected=$1 code=0
  shift
  batch "$@" > "$work/said" 2>&1 || code=$?
  [ "$code" -eq "$expected" ] || { cat "$work/said" >&2; fail "exit code $code, expected $expected: batch $*"; }
}
# The table of the store has its own addresses in the reasons.
same() { # PLACE NAME
  grep -q '0 left' "$work/said" || fail "$2: $(tail -2 "$work/said")"
  "$host" merge "$1" --out "tables-$2" > /dev/null
  sed "s|s3://cohort/in|$work/cohort/scans|g" "tables-$2/predictions.csv" | cmp - one/predictions.csv || fail "$2: another table"
  "$python" - "tables-$2/runs.csv" << 'END'
import collections, csv, sys
times = collections.Counter(row["case"] for row in csv.DictReader(open(sys.argv[1])))
assert len(times) == 40 and set(times.values()) == {1}, times
END
}

run 1 cohort/scans --out one
"$host" merge one > /dev/null
[ "$(grep -c 'mean_probe: ' one/predictions.csv)" -eq 3 ] || fail "three rows with a reason"

echo "-- scans from the store, records into a folder"
run 1 s3://cohort/in --out local
same local input
left=$(find "${TMPDIR:-/tmp}" -maxdepth 1 -newer "$work/orders" -name '.tmp*' | wc -l)
[ "$left" -eq 0 ] || fail "$left temporary folders stay"

echo "-- scans from the store, records into the store, a connection cut in the middle of a put: the process goes on by itself"
echo "cut result.json" > "$work/orders"
run 1 s3://cohort/in --out s3://cohort/cut
grep -q 'cut after' "$work/proxy.log" || fail "nothing was cut"
same s3://cohort/cut cut

echo "-- cut, and the store is gone: the process ends, what lies there is whole, the same call does the rest"
echo "down scan0020/mean_probe/result.json" > "$work/orders"
run 1 s3://cohort/in --out s3://cohort/down
grep -q 'call it again when the store answers' "$work/said" || fail "another reason: $(cat "$work/said")"
tail -1 "$work/proxy.log"
s3 << END
import json
records = [name for name in names("down/") if name.endswith("/result.json")]
assert 5 < len(records) < 40 and not any("scan0020" in name for name in records), records
for name in records:
    json.loads(s3.get_object(Bucket="cohort", Key=name)["Body"].read())
    assert name.replace("result.json", "heatmap.nii.gz") in names(name.rsplit("/", 1)[0]), name
print(len(records), "records there, all whole")
END
echo pass > "$work/orders"
run 1 s3://cohort/in --out s3://cohort/down
same s3://cohort/down down
"$host" merge s3://cohort/down > /dev/null
s3 << END
assert {"down/predictions.csv", "down/runs.csv", "down/summary.json"} <= set(names("down/"))
assert not any(name.endswith(".lock") for name in names("down/.batch/")), names("down/.batch/")
END

echo "-- two writers of one shard; one that stands still loses its shard and writes no more"
"$small" "$work/many" 40 3 2000
many() { exec "$host" batch --plugin many/probe.so --backbone "$backbone" --manifest many/cases.csv --heatmap=false --out s3://cohort/many "$@"; }
many > first 2>&1 &
first=$!
children+=("$first")
sleep 8
code=0
(many) > second 2>&1 || code=$?
[ "$code" -eq 2 ] && grep -q 'shard 0/1 is being written by process' second || fail "a second writer: $code $(cat second)"
[ "$(wc -l < second)" -eq 1 ] || fail "one line: $(cat second)"
kill -STOP "$first"
many > second 2>&1 &
second=$!
children+=("$second")
s3 << END
for _ in range(240):
    text = s3.get_object(Bucket="cohort", Key="many/.batch/locks/0-of-1.lock")["Body"].read().decode()
    if text.startswith("process $second on"):
        break
    time.sleep(0.5)
else:
    raise SystemExit(f"nobody has taken the shard over: {text}")
END
sleep 3
kill -CONT "$first"
code=0
wait "$first" || code=$?
[ "$code" -eq 1 ] && grep -q 'the lock of this shard was lost' first || fail "the first went on: $code $(tail -3 first)"
sleep 3
kill -TERM "$second"
code=0
wait "$second" || code=$?
[ "$code" -eq 75 ] || fail "the second: $code $(tail -3 second)"
"$host" merge --partial s3://cohort/many --out tables-many > /dev/null 2>&1
"$python" - << 'END'
import collections, csv
times = collections.Counter(row["case"] for row in csv.DictReader(open("tables-many/runs.csv")))
assert len(times) > 50 and set(times.values()) == {1}, [case for case, n in times.items() if n > 1]
print(len(times), "cases by two processes, none twice")
END
echo "the tables of the folder, each case done once: input from the store, output to it, cut, gone and back, two writers"
