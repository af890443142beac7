"""Load on loopback: small scans from 16 clients, beside a plugin that aborts at every tenth. Checks every answer and that memory is
flat over the quarters of the run, and prints rate, latencies and memory; then the rate of the good plugin alone
beside `host batch` on the same scans.

    python load.py HOST BENCH BACKBONE [JOBS]
"""

import concurrent.futures
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from server import Server, answers_of_run, nifti  # noqa: E402

CLIENTS = 16
FAR = 5000.0


def run_all(server, scans):
    """Submits all scans from several clients; record and seconds of each, in order."""
    def one(data):
        began = time.monotonic()
        while True:
            status, headers, body = server.ask("POST", "/scans", data)
            if status != 429:
                break
            time.sleep(float(headers["retry-after"]))
        assert status == 202, (status, body)
        record = server.end(json.loads(body)["id"])
        return record, time.monotonic() - began

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        ended = list(pool.map(one, scans))
    return ended, time.monotonic() - began


class Memory:
    """Resident MiB of the server and of its plugins' processes, apart, ten times a second while a block runs."""

    def __init__(self, server):
        self.server, self.samples, self.ended = server, [], threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()
        return self

    def look(self):
        while not self.ended.wait(0.1):
            self.samples.append(self.server.residents())

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def quarters(self):
        """Of each quarter of the run, as medians: MiB of the server, MiB of those plugins' processes that lived all the while (another
        takes the place of one that ended, and has kept nothing), and how many processes there were at most."""
        lived = [p for p in self.samples[0][1] if sum(p in children for _, children in self.samples) > 0.9 * len(self.samples)]

        def of(part):
            kept = [statistics.median(children[p] for _, children in part if p in children) for p in lived]
            return statistics.median(own for own, _ in part), sum(kept), max(len(children) for _, children in part)
        cuts = [i * len(self.samples) // 4 for i in range(5)]
        return [of(self.samples[low:high]) for low, high in zip(cuts, cuts[1:])]


def latencies(ended):
    cuts = statistics.quantiles([seconds for _, seconds in ended], n=100)
    return ", ".join(f"p{p} {cuts[p - 1] * 1e3:.0f} ms" for p in (50, 95, 99))


def main():
    host, bench, backbone = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 500
    good = ["--plugin", f"{bench}/good.so", "--backbone", backbone]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "scans").mkdir()
        near, mixed = [], []
        for i in range(count):
            near.append(nifti(i)[0])
            mixed.append(nifti(i, FAR if i % 10 == 9 else 0.0)[0])
            (folder / f"scans/{i:04}.nii").write_bytes(near[-1])
            if i % 10 == 9:
                (folder / f"far-{i:04}.nii").write_bytes(mixed[-1])
        expected = answers_of_run(host, good, [folder / "scans", *folder.glob("far-*.nii")])

        server = Server(host, [*good, "--plugin", f"{bench}/misbehaves.so", "--quarantine-after", "5"], folder / "both")
        # What the allocator, the database and the pools take once.
        run_all(server, (mixed * 4)[:200])
        with Memory(server) as memory:
            ended, seconds = run_all(server, mixed)
        for i, (record, _) in enumerate(ended):
            answers = {r["plugin"]: [p["probability"] for p in r["predictions"]] for r in record["results"]}
            digest = hashlib.sha256(mixed[i]).hexdigest()
            assert answers["mean_probe"] == expected[digest, "mean_probe"], (i, record)
            crashed = [f["plugin"] for f in record["failures"]]
            assert ("misbehaves" in answers) != (i % 10 == 9) and crashed == ["misbehaves"] * (i % 10 == 9), (i, record)
        assert server.stop() == 0
        own, plugins, most = zip(*memory.quarters())
        told = [" ".join(f"{mib:.1f}" for mib in of) for of in (own, plugins)]
        print(f"{count} jobs of two plugins from {CLIENTS} clients, one aborts at every tenth: all answers right, "
              f"{count / seconds:.1f} jobs/s, {latencies(ended)}; MiB resident in each quarter: the server {told[0]}, its plugins' "
              f"processes that lived all the while {told[1]}; at most {max(most)} processes")
        assert max(own[2:]) < 1.03 * max(own[:2]) + 2 and max(most[2:]) <= max(most[:2]) + 1, "memory grows"
        # An allocator takes a step of some MiB once; what a job keeps comes with every quarter.
        growth = [then - before for before, then in zip(plugins, plugins[1:])]
        assert plugins[0] > 0 and min(growth) < 2 and sum(growth) < 24, "memory of a plugin's process grows"

        server = Server(host, good, folder / "one")
        run_all(server, near[:20])
        ended, seconds = run_all(server, near)
        assert all(record["state"] == "done" for record, _ in ended)
        assert server.stop() == 0
        rate = count / seconds
        begin = time.monotonic()
        subprocess.run([host, "batch", *good, "--report", folder / "scans", "--out", folder / "batch"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        batch = count / (time.monotonic() - begin)
        print(f"the good plugin alone: {rate:.1f} jobs/s, {latencies(ended)}; host batch --report: {batch:.1f} scans/s "
              f"({rate / batch:.2f} of its rate)")


if __name__ == "__main__":
    main()
