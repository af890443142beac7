"""kill -9 of `host serve`, three times in the middle of its jobs: every job that was accepted is answered, none twice, and the audit
log has each end once.

    python kill.py HOST BENCH BACKBONE
"""

import collections
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from server import Server, nifti  # noqa: E402

JOBS = 60


def main():
    host, bench, backbone = sys.argv[1:4]
    random.seed(7)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        server = Server(host, ["--plugin", f"{bench}/good.so", "--backbone", backbone], data)
        accepted, kills, seed = {}, 0, 0
        while len(accepted) < JOBS:
            key = {"Idempotency-Key": f"scan {seed}"}
            try:
                status, record = server.json("POST", "/scans", nifti(seed)[0], key)
                assert status in (200, 202), (status, record)
                accepted[seed] = record["id"]
                seed += 1
            except (OSError, ValueError):
                pass  # It was killed: the same key is sent again.
            if kills < 3 and len(accepted) >= (kills + 1) * JOBS // 4:
                time.sleep(random.random() / 4)
                states = [job["state"] for job in server.json("GET", "/jobs")[1]["jobs"]]
                server.kill()
                kills += 1
                print(f"killed with {states.count('running')} running, {states.count('queued')} waiting")
                server.start()
        for seed, job in accepted.items():
            record = server.end(job)
            assert record["state"] == "done" and len(record["results"]) == 1, record
        listed = server.json("GET", "/jobs?limit=1000")[1]["jobs"]
        assert sorted(job["id"] for job in listed) == sorted(accepted.values()), "a job too many or too few"
        assert server.stop() == 0
        lines = [json.loads(line) for line in (data / "audit.jsonl").read_text().splitlines()]
        ends = collections.Counter(line["job"] for line in lines if line["event"] == "job")
        assert ends == collections.Counter(accepted.values()), "the audit log has an end twice or not at all"
        folders = sorted(path.name for path in (data / "jobs").iterdir())
        assert folders == sorted(accepted.values()), "a folder without its job"
        for job in accepted.values():
            results = list((data / "jobs" / job / "results").glob("**/result.json"))
            left = list((data / "jobs" / job / "results").glob(".writing-*"))
            assert len(results) == 1 and not left, (results, left)
        print(f"{kills} kills, {JOBS} jobs: none lost, none twice, each end audited once")


if __name__ == "__main__":
    main()
