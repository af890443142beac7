#!/usr/bin/env bash
# A plugin's whole way, from its author to a hospital without network, over three stores: a folder, a static HTTP
# server, and an OCI registry (Debian's docker-registry, which is installed where it is missing).
source "$(dirname "$0")/common.sh"
stores=("${@:-folder http oci}")
# Ports that are free now.
ports=($(python3 -c 'import socket
s = [socket.socket() for _ in range(2)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])'))

version 0.1.0
version 0.2.0
keys

# way WRITE READ: where the publisher writes, and where the hospital reads
way() {
  local write=$1 read=$2
  export ANYMC3D_HOME=$scratch/author-$3
  publish=(--index-key index.key --store "$write")
  step "$3: publish two versions; one by its author, one as an archive that was sent"
  says 0 "plugins.example" "$host" registry init --name plugins.example "${publish[@]}"
  says 2 "a registry is there already" "$host" registry init --name plugins.example "${publish[@]}"
  says 0 "published lung_nodule 0.1.0 for x86_64-linux, revision 2" "$host" registry publish \
    --plugin 0.1.0/liblung_nodule.so --from 0.1.0 --publisher "Example Lab" --key lab.key "${publish[@]}"
  says 0 "0.2.0-x86_64-linux.tar.zst" "$host" registry pack --plugin 0.2.0/liblung_nodule.so --from 0.2.0 \
    --publisher "Example Lab" --key lab.key --out dist
  local archive=dist/lung_nodule-0.2.0-x86_64-linux.tar.zst

  step "$3: search and install on a second home"
  export ANYMC3D_HOME=$scratch/hospital-$3
  mkdir -p "$scratch/project-$3" && cp lab.pub index.pub "$scratch/project-$3/" && cd "$scratch/project-$3"
  says 3 "which is not trusted here" "$host" registry search --store "$read"
  trust
  says 0 "lung_nodule  0.1.0   Example Lab" "$host" registry search nodule --store "$read"
  says 0 "installed lung_nodule 0.1.0 by Example Lab" "$host" registry install lung_nodule --store "$read" --lock
  grep -q '^version = "0.1.0"$' anymc3d.lock || fail "anymc3d.lock does not name the version"

  step "$3: run; the result names package, publisher and digests"
  "$host" run -q --plugin lung_nodule@0.1 "$scan" --json > result.json
  python3 - result.json "$(sha256sum "$ANYMC3D_HOME/plugins/lung_nodule/0.1.0/liblung_nodule.so")" 0.1.0 <<'P' || fail "the record"
import json, sys
plugin = json.load(open(sys.argv[1]))["plugin"]
package = plugin["package"]
assert plugin["sha256"] == sys.argv[2].split()[0], plugin
assert (package["name"], package["version"], package["publisher"]) == ("lung_nodule", sys.argv[3], "Example Lab"), package
assert len(package["sha256"]) == len(package["manifest_sha256"]) == 64 and package["registry"] == "plugins.example", package
print("  ", package)
P

  step "$3: publish the sent archive; update beside the old version"
  ( cd "$scratch"; export ANYMC3D_HOME=$scratch/author-$3
    says 3 "signed by key" "$host" registry publish $archive "${publish[@]}"
    says 0 "trusted: Example Lab" "$host" registry trust add "Example Lab" lab.pub
    says 0 "published lung_nodule 0.2.0 for x86_64-linux, revision 3" "$host" registry publish $archive "${publish[@]}"
    says 0 "is published already, with the same content" "$host" registry publish $archive "${publish[@]}" )
  says 0 "installed lung_nodule 0.2.0" "$host" registry update --store "$read"
  grep -q '^version = "0.2.0"$' anymc3d.lock || fail "anymc3d.lock was not moved"
  says 0 '"package":{"name":"lung_nodule","version":"0.2.0"' "$host" run -q --plugin lung_nodule "$scan" --json
  says 3 "locks lung_nodule 0.2.0, and lung_nodule@0.1.0 was asked for" "$host" run --plugin lung_nodule@0.1.0 "$scan"
  ( cd / && says 0 "lung_nodule 0.1.0" "$host" run --plugin lung_nodule@0.1.0 "$scan" )

  step "$3: verify; a changed byte is found, does not run, and is repaired"
  says 0 "as signed" "$host" registry verify
  printf x >> "$ANYMC3D_HOME/plugins/lung_nodule/0.2.0/liblung_nodule.so"
  says 3 "changed since it was installed" "$host" registry verify
  says 3 "changed since it was installed" "$host" run --plugin lung_nodule "$scan"
  says 0 "1 files are as they were signed again" "$host" registry verify --repair --store "$read"
  says 0 "lung_nodule 0.2.0" "$host" run --plugin lung_nodule "$scan"

  step "$3: yank; what is locked runs with a warning, and not at all when it may harm"
  ( cd "$scratch"; says 0 "withdrawn for accuracy, revision 4" "$host" registry yank lung_nodule@0.2.0 --reason accuracy --detail "misses the pleura" "${publish[@]}" )
  rm -r "$ANYMC3D_HOME/plugins/lung_nodule/0.2.0"
  says 0 "it is locked, and was installed all the same" "$host" registry install --store "$read"
  says 0 "warning: lung_nodule 0.2.0 is withdrawn for accuracy: misses the pleura" "$host" run --plugin lung_nodule "$scan"
  ( cd "$scratch"; says 0 "withdrawn for safety, revision 5" "$host" registry yank lung_nodule@0.2.0 --reason safety --detail "mirrors left and right" "${publish[@]}" )
  cp anymc3d.lock before.lock
  says 0 "lung_nodule 0.2.0 is withdrawn for safety" "$host" registry update --store "$read"
  grep -q '^version = "0.1.0"$' anymc3d.lock || fail "update kept a version that was withdrawn for safety"
  says 3 "it does not run" "$host" run --plugin lung_nodule --lock before.lock "$scan"
  says 0 "is withdrawn for safety" "$host" run --plugin lung_nodule --lock before.lock --allow-yanked "$scan"
  says 3 "0.2.0 for x86_64-linux: withdrawn for safety: mirrors left and right" "$host" registry install lung_nodule@^0.2 --store "$read"

  step "$3: undo it; mirror a selection, and install from it without network"
  ( cd "$scratch"; says 0 "is back, revision 6" "$host" registry yank lung_nodule@0.2.0 --undo "${publish[@]}" )
  says 0 "lung_nodule 0.1.0 for x86_64-linux" "$host" registry mirror lung_nodule@0.1 --store "$read" --to "$scratch/stick-$3"
  export ANYMC3D_HOME=$scratch/island-$3
  mkdir -p "$scratch/island-project-$3" && cp lab.pub index.pub "$scratch/island-project-$3/" && cd "$scratch/island-project-$3"
  trust
  local island=() && unshare -rn true 2> /dev/null && island=(unshare -rn)
  says 0 "installed lung_nodule 0.1.0" "${island[@]}" "$host" registry install lung_nodule@0.1 --store "$scratch/stick-$3"
  says 1 "does a mirror leave it out?" "${island[@]}" "$host" registry install lung_nodule@0.2.0 --store "$scratch/stick-$3"
  says 0 "package by Example Lab" "${island[@]}" "$host" run --plugin lung_nodule "$scan"
  cd "$scratch"
}

for store in ${stores[*]}; do
  case $store in
    folder) way "$scratch/folder" "$scratch/folder" folder ;;
    http)
      mkdir served
      python3 -m http.server "${ports[0]}" --bind 127.0.0.1 --directory served > /dev/null 2>&1 &
      ended+=($!)
      for _ in $(seq 50); do python3 -c "import socket; socket.create_connection(('127.0.0.1', ${ports[0]}))" 2> /dev/null && break; sleep 0.1; done
      way "$scratch/served" "http://127.0.0.1:${ports[0]}" http ;;
    oci)
      if ! command -v docker-registry > /dev/null; then
        apt-get update -qq && apt-get install -y -qq docker-registry > /dev/null
      fi
      printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$scratch/blobs" "${ports[1]}" > oci.yml
      docker-registry serve oci.yml > oci.log 2>&1 &
      ended+=($!)
      for _ in $(seq 50); do python3 -c "import socket; socket.create_connection(('127.0.0.1', ${ports[1]}))" 2> /dev/null && break; sleep 0.1; done
      way "oci+http://127.0.0.1:${ports[1]}/hospital/anymc3d" "oci+http://127.0.0.1:${ports[1]}/hospital/anymc3d" oci ;;
  esac
done
step "done: ${stores[*]}"
