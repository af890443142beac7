#!/usr/bin/env bash
# `host batch` under a real Slurm: one node on loopback, set up and torn down here. An array of 8 tasks over 400 small scans of
# which 20 are corrupt; two tasks are killed with -9 and requeued; merged, the table is that of one process, and no case was
# done twice. Also what Slurm says to a task in its variables, and what a requeue sends, against facts.txt.
#
# Needs root, Debian's slurm-wlm and munge (22.05 was used), and `cargo build --release --workspace --example small_cohort`.
#   tests/outside/slurm/check.sh [HOST] [SMALL_COHORT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
host=${1:-$root/target/release/host}
small=${2:-$root/target/release/examples/small_cohort}
for tool in slurmctld slurmd munged sbatch; do
  command -v $tool > /dev/null || { echo "skipped: $tool is missing (apt-get install slurm-wlm munge)"; exit 0; }
done
work=$(mktemp -d)
node=$(hostname -s)
pids=()
tear_down() {
  code=$?
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  sleep 1
  for pid in "${pids[@]}"; do kill -9 "$pid" 2> /dev/null || true; done
  if [ $code -ne 0 ]; then tail -n 20 "$work"/*.log || true; tail -n 5 "$work"/task.* || true; fi
  rm -rf "$work"
  exit $code
}
trap tear_down EXIT
step() { printf '\n== %s\n' "$*"; }
lines() { { cat "$@" 2> /dev/null || true; } | wc -l; }
fail() { echo "FAILED: $*" >&2; exit 1; }

step "a cluster of one node"
mkdir -p "$work"/{state,spool,munge}
chmod 755 "$work" "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=128 count=1 status=none; chmod 600 "$work/munge/key"
cat > "$work/slurm.conf" << CONF
ClusterName=loop
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
export SLURM_CONF=$work/slurm.conf
munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed" > "$work/munged.log" 2>&1 & pids+=($!)
sleep 1
slurmctld -D > "$work/slurmctld.out.log" 2>&1 & pids+=($!)
slurmd -D > "$work/slurmd.out.log" 2>&1 & pids+=($!)
for _ in $(seq 60); do sinfo -h -o %T 2> /dev/null | grep -q idle && break; sleep 0.5; done
sinfo -h -o '%N %T' | grep -q idle || fail "no idle node: $(sinfo 2>&1)"
sinfo --version
echo "MaxArraySize: $(scontrol show config | awk '/MaxArraySize/ {print $3}'), KillWait: $(scontrol show config | awk '/KillWait/ {print $3, $4}')"

step "400 scans, 20 of them corrupt, and what one process makes of them"
"$small" "$work/cohort" 400 20
call=("$host" batch --plugin "$work/cohort/probe.so" --backbone "$root/tests/fixtures/dinov2_registers" --threads 1
  --manifest "$work/cohort/work.csv")
listed=("$host" batch --plugin "$work/cohort/probe.so" --backbone "$root/tests/fixtures/dinov2_registers" --threads 1
  "$work/cohort/scans" --out "$work/list" --list --quiet)
"${listed[@]}"
cp "$work/list/work.csv" "$work/cohort/work.csv"
"${call[@]}" --out "$work/one" --quiet 2> /dev/null && fail "20 scans are corrupt" || test $? -eq 1
"$host" merge "$work/one"

step "what a task sees, against facts.txt"
cat > "$work/facts.sbatch" << 'SBATCH'
#!/bin/bash
echo "ID=$SLURM_ARRAY_TASK_ID MIN=$SLURM_ARRAY_TASK_MIN MAX=$SLURM_ARRAY_TASK_MAX STEP=$SLURM_ARRAY_TASK_STEP COUNT=$SLURM_ARRAY_TASK_COUNT"
SBATCH
seen() { # seen ARRAY: the line of its highest task
  local job
  job=$(sbatch --parsable --wait --array="$1" -o "$work/facts.%a" "$work/facts.sbatch")
  echo "--array=$1: $(cat "$work/facts.${2}")"
  rm -f "$work"/facts.[0-9]*
}
{ seen 0-7 7; seen 1-8 8; seen 10-24:2 14; seen 0,3,7 7; seen 5 5; } | tee "$work/facts.seen"
diff "$here/facts.txt" "$work/facts.seen" || fail "Slurm says something else than facts.txt"

step "an array of 8 tasks; two are killed with -9 and requeued"
cat > "$work/array.sbatch" << SBATCH
#!/bin/bash
#SBATCH --requeue
echo "begins, restart count \${SLURM_RESTART_COUNT:-0}" >> "$work/restarts.\$SLURM_ARRAY_TASK_ID"
${call[*]} --out "$work/array" --shards 8
code=\$?
echo "\$code" >> "$work/codes.\$SLURM_ARRAY_TASK_ID"
# A case that failed is a row with its reason, and no reason to run the task again.
[ \$code -le 1 ] && exit 0
exit \$code
SBATCH
job=$(sbatch --parsable --array=0-7 -o "$work/task.%a" --open-mode=append "$work/array.sbatch")
killed=()
# A task is killed in the middle of its work: some of its cases are done, some are not.
until [ ${#killed[@]} -eq 2 ]; do
  for lock in "$work"/array/.batch/locks/*-of-8.lock; do
    [ -e "$lock" ] || continue
    shard=$(basename "$lock"); shard=${shard%%-*}
    [[ " ${killed[*]:-} " == *" $shard "* ]] && continue
    done_now=$(lines "$work"/array/.batch/journal/"$shard"-of-8.*.jsonl)
    pid=$(sed -n 's/^process \([0-9]*\) .*/\1/p' "$lock")
    [ -n "$pid" ] || continue
    if [ "$done_now" -ge 5 ] && [ "$done_now" -le 40 ] && [ ${#killed[@]} -lt 2 ] && kill -9 "$pid" 2> /dev/null; then
      echo "task $shard: killed with -9 after $done_now cases"
      killed+=("$shard")
    fi
  done
  [ -n "$(squeue -h -j "$job" 2> /dev/null)" ] || [ ${#killed[@]} -eq 2 ] || fail "the array ended before two tasks were killed"
done
for shard in "${killed[@]}"; do
  for _ in $(seq 100); do grep -q 137 "$work/codes.$shard" 2> /dev/null && break; sleep 0.1; done
  sleep 1
  scontrol requeue "${job}_$shard"
done
requeued=$(date +%s)
for _ in $(seq 300); do [ -z "$(squeue -h -j "$job" 2> /dev/null)" ] && break; sleep 1; done
[ -z "$(squeue -h -j "$job" 2> /dev/null)" ] || fail "tasks are left: $(squeue -j "$job")"
echo "requeued tasks were done $(( $(date +%s) - requeued )) s after the requeue"
for shard in "${killed[@]}"; do
  grep -q "restart count 1" "$work/restarts.$shard" || fail "task $shard was not restarted: $(cat "$work/restarts.$shard")"
done

step "merged"
"$host" merge "$work/array"
cmp "$work/one/predictions.csv" "$work/array/predictions.csv" || fail "the tables differ"
failed=$(grep -c 'mean_probe: ' "$work/array/predictions.csv")
[ "$failed" -eq 20 ] || fail "$failed rows with a reason, expected 20"
twice=$(tail -n +2 "$work/array/runs.csv" | cut -d, -f1 | sort | uniq -d | wc -l)
[ "$twice" -eq 0 ] || fail "$twice cases were done twice"
echo "400 rows, equal to those of one process; 20 with a reason; no case done twice"

step "scancel and a requeue send SIGTERM: the task ends after the case at hand"
cat > "$work/term.sbatch" << SBATCH
#!/bin/bash
#SBATCH --requeue
exec ${call[*]} --out "$work/term" --shards 1
SBATCH
job=$(sbatch --parsable --array=0-0 -o "$work/task.term" --open-mode=append "$work/term.sbatch")
for _ in $(seq 600); do [ "$(lines "$work"/term/.batch/journal/*.jsonl)" -ge 20 ] && break; sleep 0.05; done
scontrol requeue "${job}_0"
for _ in $(seq 100); do grep -q "stopped by SIGTERM" "$work/task.term" && break; sleep 0.1; done
grep "stopped by SIGTERM" "$work/task.term" || fail "a requeue did not end the task by SIGTERM: $(cat "$work/task.term")"
scancel "$job"
echo "all checks passed"
