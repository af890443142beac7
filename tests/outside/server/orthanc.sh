#!/usr/bin/env bash
# `host serve --dicomweb` against a real archive: Orthanc with its DICOMweb plugin (Debian: orthanc, orthanc-dicomweb), and
# the CT series of ../shared/data as several studies. Every study gets its report, heatmap and picture exactly once, while the
# archive is down, slow, answers 409 and 413, drops connections, and the server is killed (-9) in the middle three times.
#
#   tests/outside/server/orthanc.sh [HOST] [PYTHON]    HOST is built with the feature server; PYTHON has pydicom and highdicom
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
here=$root/tests/outside/server
host=$(realpath "${1:-$root/target/release/host}")
python=${2:-${PYTHON:-python3}}
data=${ANYMC3D_DATA:-$root/../shared/data}
[ -d "$data/example_ct_dicom" ] || { echo "skipped: no example_ct_dicom in $data"; exit 0; }
"$python" -c 'import pydicom, highdicom' 2> /dev/null || { echo "skipped: no pydicom and highdicom (pip install highdicom)"; exit 0; }
"$host" serve --help > /dev/null 2>&1 || { echo "skipped: $host was built without the feature server"; exit 0; }
plugin=/usr/share/orthanc/plugins/libOrthancDicomWeb.so
if [ ! -e "$plugin" ] || ! command -v Orthanc > /dev/null; then
  DEBIAN_FRONTEND=noninteractive timeout 120 apt-get install -y --no-install-recommends orthanc orthanc-dicomweb > /dev/null 2>&1 \
    || { echo "skipped: Orthanc cannot be installed (Debian: orthanc, orthanc-dicomweb)"; exit 0; }
fi

# A copy of the binary finds the backbone from here.
cd "$root"
work=$(mktemp -d)
orthanc= proxy= tls= server= masks=
end() {
  for child in $server $proxy $tls $orthanc; do kill -9 "$child" 2> /dev/null || true; done
  wait 2> /dev/null || true
  rm -rf "$work"
}
trap end EXIT
fail() { echo "FAILED: $*" >&2; tail -20 "$work/server.log" >&2 || true; exit 1; }
port() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
archive() { "$python" "$here/archive.py" "$@"; }

http=$(port) dicom=$(port) between=$(port) listen=$(port)
cat > "$work/orthanc.json" << END
{ "Name": "test", "StorageDirectory": "$work/storage", "IndexDirectory": "$work/storage", "HttpPort": $http, "DicomPort": $dicom,
  "RemoteAccessAllowed": false, "AuthenticationEnabled": true, "RegisteredUsers": { "anymc3d": "secret" },
  "Plugins": ["$plugin"], "DicomWeb": { "Enable": true, "Root": "/dicom-web/" }, "StableAge": 1 }
END
cat > "$work/rules.toml" << END
[[rule]]
name = "ct"
modality = ["CT"]
slice_thickness_mm = { max = 5.0 }
plugins = ["lung_nodule"]

# For everything: our own results among them, which must never be answered.
[[rule]]
name = "everything"
plugins = ["lung_nodule"]

[archive]
window_days = 0
poll_seconds = 1
quiet_seconds = 1
timeout_seconds = 6
credentials = { basic_file = "account" }

[retry]
first_seconds = 0.1
most_seconds = 1
END
echo "anymc3d:secret" > "$work/account"
echo pass > "$work/orders"

start_orthanc() {
  Orthanc "$work/orthanc.json" >> "$work/orthanc.log" 2>&1 &
  orthanc=$!
  archive ready "$url"
}
start_server() { # [RULES URL]
  "$host" serve --plugin "$root/target/release/liblung_nodule.so" --listen "127.0.0.1:$listen" --data "$work/data" --no-report $masks \
    --dicomweb "${2:-http://127.0.0.1:$between}/dicom-web" --rules "${1:-$work/rules.toml}" >> "$work/server.log" 2>&1 &
  server=$!
}
status() { curl -s "http://127.0.0.1:$listen/studies" || true; }
state() { # STATE: how many studies are in it
  status | "$python" -c 'import json, sys
try: print(json.load(sys.stdin)["studies"].get(sys.argv[1], 0))
except ValueError: print(0)' "$1"
}
wait_for() { # SECONDS TEXT COMMAND…
  # Five times as long as a quiet machine with two cores may take: others may compute beside it.
  local until=$((SECONDS + 5 * $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $until ] || fail "$what"
    sleep 0.2
  done
}
verified() { [ "$(state verified)" = "$1" ]; }
logged() { [ "$(grep -c "$1" "$work/server.log")" -ge "$2" ]; }
carried_out() { [ "$(cat "$work/orders")" = pass ]; }
killed() { kill -9 "$server"; wait "$server" 2> /dev/null || true; }

url=http://127.0.0.1:$http/dicom-web
archive copies "$data/example_ct_dicom" "$work/studies" 12
start_orthanc
"$python" "$here/archive_proxy.py" "$between" "$http" "$work/orders" &
proxy=$!

echo "== one study, seen in the archive's list"
start_server
archive push "$url" "$work/studies/study0"
wait_for 60 "the first study is not answered" verified 1
archive check "$url" "$work/studies/study0"

echo "== kill -9: after the fetch, while the plugin computes, and while the archive has the results and its answer is on its way"
archive push "$url" "$work/studies/study1"
wait_for 30 "the second study is not fetched" logged "fetched, " 2
killed
start_server
wait_for 30 "the second study is not submitted" logged "submitted as job" 2
killed
echo "hold POST" > "$work/orders"
start_server
wait_for 60 "the results are not sent" carried_out
sleep 0.5
killed
start_server
wait_for 60 "the second study is not answered after three kills" verified 2
archive check "$url" "$work/studies/study1"

echo "== the archive is down, comes back, is slow, answers 409, 413, 503, and drops connections in the middle"
kill -9 "$orthanc"; wait "$orthanc" 2> /dev/null || true
sleep 2
start_orthanc
number=2
for order in "slow 9 POST" "status 409 POST" "status 413 POST" "status 503 GET" "cut-request POST" "cut-answer POST" "cut-answer GET"; do
  echo "$order" > "$work/orders"
  archive push "$url" "$work/studies/study$number"
  number=$((number + 1))
  wait_for 60 "$order: not carried out" carried_out
  wait_for 60 "$order: the study is not answered" verified "$number"
  echo "$order: answered"
done
echo down > "$work/orders"
archive push "$url" "$work/studies/study$number"
sleep 3
echo pass > "$work/orders"
number=$((number + 1))
wait_for 60 "down: the study is not answered" verified "$number"

echo "== the webhook takes a UID and nothing else"
response=$(curl -s -o /dev/null -w '%{http_code}' -d '{"study": "1.2.3"}' "http://127.0.0.1:$listen/webhook/study")
[ "$response" = 202 ] || fail "webhook: $response"
response=$(curl -s -o /dev/null -w '%{http_code}' -d '{"study": "../1.2"}' "http://127.0.0.1:$listen/webhook/study")
[ "$response" = 400 ] || fail "webhook, no UID: $response"

echo "== over TLS, with a certificate that the machine does not know"
killed
# Debian's Orthanc has TLS, but does not survive a connection: a proxy speaks it.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -addext basicConstraints=critical,CA:FALSE -keyout "$work/key.pem" -out "$work/ca.pem" 2> /dev/null
cat "$work/ca.pem" "$work/key.pem" > "$work/both.pem"
sed 's|^\[archive\]|[archive]\nca_file = "ca.pem"|' "$work/rules.toml" > "$work/tls.toml"
secure=$(port)
"$python" "$here/archive_proxy.py" "$secure" "$http" "$work/orders" "$work/both.pem" 2> /dev/null &
tls=$!
start_server "$work/rules.toml" "https://localhost:$secure"
archive push "$url" "$work/studies/study$number"
wait_for 30 "an unknown certificate is not told" logged "not available.*TLS" 1
sleep 2
verified "$number" || fail "an unknown certificate was trusted: $(status)"
killed
start_server "$work/tls.toml" "https://localhost:$secure"
number=$((number + 1))
wait_for 60 "TLS: the study is not answered" verified "$number"

echo "== looks at the list later: nothing twice, nothing of ours answered, nobody's name anywhere"
sleep 4
answered=()
for at in $(seq 0 $((number - 1))); do answered+=("$work/studies/study$at"); done
counts=$(archive count "$url")
[ "$counts" = "$(yes 3 | head -"$number" | paste -sd' ')" ] || fail "objects for each study: $counts"
archive check "$url" "${answered[@]}"
[ "$(state failed)" = 0 ] || fail "studies failed: $(status)"
if grep -iE 'SECRET' "$work/server.log" || status | grep -i SECRET; then fail "a name is in log or status"; fi
if grep -F "$("$python" -c 'import pydicom, sys; print(pydicom.dcmread(sys.argv[1]).StudyInstanceUID)' "$work/studies/study0/0.dcm")" "$work/server.log"; then
  fail "a UID is in the log"
fi
[ -z "$(ls -A "$work/data/dicomweb/studies")" ] || fail "scans are left: $(ls "$work/data/dicomweb/studies")"

echo "== a task that segments: its mask is in the archive as SEG"
killed
masks=--segmentation
start_server "$work/tls.toml" "https://localhost:$secure"
archive push "$url" "$work/studies/study$number"
wait_for 60 "the study with a mask is not answered" verified $((number + 1))
archive segmented "$url" "$work/studies/study$number" "$work/data"
echo "passed: $((number + 1)) studies, $((number * 3 + 4)) objects, each once"
