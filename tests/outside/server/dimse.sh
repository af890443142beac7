#!/usr/bin/env bash
# C-STORE both ways with dcmtk: echoscu and storescu send to `host serve`, whose results go to storescp; last over TLS through stunnel,
# as docs/dicomweb.md has it.
#
#   tests/outside/server/dimse.sh [HOST] [PYTHON]      HOST is built with the feature server; PYTHON has pydicom and highdicom
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
here=$root/tests/outside/server
host=$(realpath "${1:-$root/target/release/host}")
python=${2:-${PYTHON:-python3}}
data=${ANYMC3D_DATA:-$root/../shared/data}
[ -d "$data/example_ct_dicom" ] || { echo "skipped: no example_ct_dicom in $data"; exit 0; }
"$python" -c 'import pydicom, highdicom' 2> /dev/null || { echo "skipped: no pydicom and highdicom (pip install highdicom)"; exit 0; }
"$host" serve --help > /dev/null 2>&1 || { echo "skipped: $host was built without the feature server"; exit 0; }
if ! command -v storescu > /dev/null; then
  DEBIAN_FRONTEND=noninteractive timeout 120 apt-get install -y --no-install-recommends dcmtk > /dev/null 2>&1 \
    || { echo "skipped: dcmtk cannot be installed"; exit 0; }
fi

# A copy of the binary finds the backbone from here.
cd "$root"
work=$(mktemp -d)
server= scp= tunnel=
end() {
  for child in $server $scp $tunnel; do kill -9 "$child" 2> /dev/null || true; done
  wait 2> /dev/null || true
  rm -rf "$work"
}
trap end EXIT
fail() { echo "FAILED: $*" >&2; tail -20 "$work/server.log" >&2 || true; exit 1; }
port() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

listen=$(port) dimse=$(port) back=$(port)
cat > "$work/rules.toml" << END
[[rule]]
name = "ct"
modality = ["CT"]
plugins = ["lung_nodule"]

[receiver]
listen = "127.0.0.1:$dimse"
callers = ["MODALITY"]
quiet_seconds = 2
timeout_seconds = 10

[results]
store_to = { address = "127.0.0.1:$back", ae_title = "PACS" }

[retry]
first_seconds = 0.1
most_seconds = 1
END
start_server() {
  "$host" serve --plugin "$root/target/release/liblung_nodule.so" --listen "127.0.0.1:$listen" --data "$work/${1:-data}" --no-report \
    --rules "$work/${2:-rules.toml}" \
    >> "$work/server.log" 2>&1 &
  server=$!
  for _ in $(seq 600); do curl -sf "http://127.0.0.1:$listen/studies" > /dev/null && return; sleep 0.1; done
  fail "the server does not answer"
}
start_scp() {
  mkdir -p "$work/received"
  storescp -aet PACS -od "$work/received" "$back" >> "$work/scp.log" 2>&1 &
  scp=$!
}
sent() { # how many studies
  curl -s "http://127.0.0.1:$listen/studies" | "$python" -c 'import json, sys; print(json.load(sys.stdin)["studies"].get("sent", 0))'
}
wait_sent() {
  for _ in $(seq 1500); do [ "$(sent)" = "$1" ] && return; sleep 0.2; done
  fail "$1 studies are not sent: $(curl -s "http://127.0.0.1:$listen/studies")"
}
send() { storescu -aet "${caller:-MODALITY}" -aec "${called:-ANYMC3D}" ${syntax:-} +sd +r 127.0.0.1 "$dimse" "$@" 2>&1; }

"$python" "$here/archive.py" copies "$data/example_ct_dicom" "$work/studies" 3
"$python" "$here/archive.py" copies "$data/example_ct_dicom" "$work/later" 1
# The series is JPEG 2000; the first study is sent uncompressed, the others as they are.
"$python" - "$work/studies/study0" << 'END'
import pathlib, pydicom, sys
for path in pathlib.Path(sys.argv[1]).iterdir():
    data = pydicom.dcmread(path)
    data.decompress(generate_instance_uid=False)
    data.save_as(path)
END
start_server
start_scp

echo "== C-ECHO, and who may call"
echoscu -aet MODALITY -aec ANYMC3D 127.0.0.1 "$dimse" || fail "C-ECHO"
if echoscu -aet STRANGER -aec ANYMC3D 127.0.0.1 "$dimse" 2> /dev/null; then fail "a stranger was let in"; fi
if echoscu -aet MODALITY -aec OTHER 127.0.0.1 "$dimse" 2> /dev/null; then fail "another title was answered"; fi

echo "== uncompressed, and JPEG 2000"
send "$work/studies/study0" || fail "storescu"
syntax=-xv send "$work/studies/study1" || fail "storescu, JPEG 2000"
wait_sent 2

echo "== the server is killed (-9) after the last instance was confirmed, and where the results go is down meanwhile"
kill "$scp"; wait "$scp" 2> /dev/null || true
syntax=-xv send "$work/studies/study2" || fail "storescu"
kill -9 "$server"; wait "$server" 2> /dev/null || true
start_server
sleep 6
start_scp
wait_sent 3
"$python" "$here/archive.py" files "$work/received" "$work"/studies/*

echo "== our own results come back by some route: never answered"
before=$(curl -s "http://127.0.0.1:$listen/jobs" | wc -c)
send "$work/received" > "$work/back.log" || true
sleep 4
[ "$(curl -s "http://127.0.0.1:$listen/jobs" | wc -c)" = "$before" ] || fail "our own results became a job"
[ "$(find "$work/received" -type f | wc -l)" = 9 ] || fail "objects: $(ls "$work/received")"
if grep -i SECRET "$work/server.log"; then fail "a name is in the log"; fi
[ -z "$(ls -A "$work/data/dicomweb/incoming")" ] || fail "instances are left"

echo "== over TLS, through a tunnel on each way; who has no certificate that the tunnel trusts is not let in"
if ! command -v stunnel > /dev/null; then
  DEBIAN_FRONTEND=noninteractive timeout 60 apt-get install -y --no-install-recommends stunnel4 > /dev/null 2>&1 || true
fi
if ! command -v stunnel > /dev/null; then
  echo "skipped: no stunnel"
  echo "passed: 3 studies, 9 objects, each once"
  exit 0
fi
kill "$server" "$scp"
wait "$server" "$scp" 2> /dev/null || true
for who in ours modality stranger; do
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$who" -keyout "$work/$who.key" -out "$work/$who.pem" 2> /dev/null
done
in=$(port) out=$(port) secure=$(port)
cat > "$work/stunnel.conf" << END
foreground = yes
pid =
[receive]
accept = 127.0.0.1:$in
connect = 127.0.0.1:$dimse
cert = $work/ours.pem
key = $work/ours.key
CAfile = $work/modality.pem
verifyPeer = yes
[send]
client = yes
accept = 127.0.0.1:$out
connect = 127.0.0.1:$secure
cert = $work/ours.pem
key = $work/ours.key
CAfile = $work/modality.pem
verifyPeer = yes
END
stunnel "$work/stunnel.conf" 2> "$work/stunnel.log" &
tunnel=$!
sed "s/127.0.0.1:$back/127.0.0.1:$out/" "$work/rules.toml" > "$work/tls.toml"
mkdir "$work/secure"
storescp +tls "$work/modality.key" "$work/modality.pem" +cf "$work/ours.pem" -aet PACS -od "$work/secure" "$secure" >> "$work/scp.log" 2>&1 &
scp=$!
start_server data2 tls.toml
secret() { # KEY AND CERTIFICATE OF, FOLDER
  storescu +tls "$work/$1.key" "$work/$1.pem" +cf "$work/ours.pem" -aet MODALITY -aec ANYMC3D -xv +sd +r 127.0.0.1 "$in" "$2" 2>&1
}
if secret stranger "$work/later" > /dev/null; then fail "a stranger was let through the tunnel"; fi
secret modality "$work/later" || fail "storescu over TLS"
wait_sent 1
"$python" "$here/archive.py" files "$work/secure" "$work"/later/*
echo "passed: 4 studies, 12 objects, each once"
