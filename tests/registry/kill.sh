#!/usr/bin/env bash
# kill.sh [N]: `kill -9` at N random moments of an update, and N of an installation. Whatever the moment: the old or the
# new version runs, everything that is installed is as it was signed, and doing it again ends it.
source "$(dirname "$0")/common.sh"
rounds=${1:-25}
version 0.1.0
version 0.2.0
keys
export ANYMC3D_HOME=$scratch/home
publish=(--publisher "Example Lab" --key lab.key --index-key index.key --store "$scratch/store")
"$host" registry init -q --name plugins.example --index-key index.key --store "$scratch/store" > /dev/null
for v in 0.1.0 0.2.0; do
  "$host" registry publish -q --plugin $v/liblung_nodule.so --from $v "${publish[@]}" > /dev/null
done
trust
export ANYMC3D_STORE=$scratch/store
cp -a home empty
"$host" registry install -q lung_nodule@0.1.0 --lock > /dev/null
cp -a home old && cp anymc3d.lock old.lock
now() { date +%s%N; }
# The exact version is pinned; the update lets it go, in every round as here.
update=("$host" registry update -q lung_nodule --unpin)
start=$(now) && "${update[@]}" > /dev/null && took=$(($(now) - start))

# at_random COMMAND…: starts it and ends it with -9 somewhere between its beginning and a little after its end; with its
# child, or leaving the child alone
at_random() {
  set -m
  "$@" > /dev/null 2>&1 &
  local id=$!
  set +m
  sleep "$(awk -v r="$RANDOM" -v t="$took" 'BEGIN { printf "%.4f", r / 32768 * 1.1 * t / 1e9 }')"
  if ((RANDOM % 2)); then kill -9 "$id" 2> /dev/null || true; else kill -9 -- "-$id" 2> /dev/null || true; fi
  wait "$id" 2> /dev/null && echo finished || echo killed
}
# The installed version that answers; none says `none`.
answers() {
  "$host" run -q --plugin "$1" "$scan" --json > answer.json 2> answer.err || { grep -q "not installed" answer.err && echo none && return; cat answer.err >&2; fail "does not run"; }
  sed 's/.*"package":{"name":"lung_nodule","version":"\([^"]*\)".*/\1/' answer.json
}
sound() { "$host" registry verify -q > verify.out || { cat verify.out >&2; fail "not as signed"; }; }

declare -A seen
for ((i = 1; i <= rounds; i++)); do
  rm -rf home && cp -a old home && cp old.lock anymc3d.lock
  ended=$(at_random "${update[@]}")
  got=$(answers lung_nodule)
  [[ $got == 0.1.0 || $got == 0.2.0 ]] || fail "update, round $i: $got answers"
  sound
  seen["update $ended: $got runs"]=$((${seen["update $ended: $got runs"]:-0} + 1))
  "${update[@]}" > /dev/null
  [ "$(answers lung_nodule)" = 0.2.0 ] || fail "update, round $i: a second one does not end it"
done
rm anymc3d.lock
for ((i = 1; i <= rounds; i++)); do
  rm -rf home && cp -a empty home
  ended=$(at_random "$host" registry install -q lung_nodule@0.1.0)
  got=$(answers lung_nodule@0.1.0)
  [[ $got == none || $got == 0.1.0 ]] || fail "install, round $i: $got answers"
  sound
  seen["install $ended: $got runs"]=$((${seen["install $ended: $got runs"]:-0} + 1))
  "$host" registry install -q lung_nodule@0.1.0 > /dev/null
  [ "$(answers lung_nodule@0.1.0)" = 0.1.0 ] || fail "install, round $i: a second one does not end it"
  left=$(find home/plugins -name '.unfinished-*' | wc -l)
  [ "$left" = 0 ] || fail "install, round $i: $left unfinished folders were left"
done
for what in "${!seen[@]}"; do echo "   ${seen[$what]} × $what"; done | sort -k3
echo "   killed at random over $((took / 1000000)) ms"
