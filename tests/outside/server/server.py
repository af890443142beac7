"""A running `host serve` and a client for it, of the standard library alone."""

import atexit
import http.client
import json
import os
import re
import signal
import struct
import subprocess
import threading
import time

SHAPE = (10, 20, 24)  # D, H, W


def nifti(seed, z=0.0):
    """A body in air as NIfTI-1 of int16, another one for each seed, whose first slice lies at z mm: bytes, and voxels in the
    order of the file (x fastest)."""
    d, h, w = SHAPE
    voxels = []
    for i in range(d * h * w):
        x, y = i % w, i // w % h
        voxels.append((i * (seed + 1) * 7919 % 300) - 60 if 3 <= x < 20 and 2 <= y < 17 else -1000)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, w, h, d, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 9, 9, 12, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    header[123] = 2  # mm
    struct.pack_into("<2h", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, 9, 0, 0, 0, 0, 9, 0, 0, 0, 0, 12, z)
    header[344:348] = b"n+1\0"
    return bytes(header) + struct.pack(f"<{len(voxels)}h", *voxels), voxels


class Server:
    """A server that is started, asked, killed and started again."""

    def __init__(self, host, arguments, data, secure=None):
        self.command = [host, "serve", "--listen", "127.0.0.1:0", "--data", str(data), *map(str, arguments)]
        self.secure = secure
        self.process = self.port = None
        # A check that fails leaves no server behind.
        atexit.register(lambda: self.process.kill())
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stdin=subprocess.DEVNULL, text=True)
        said = []
        for line in self.process.stderr:
            said.append(line)
            found = re.search(r"serving at https?://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
                break
        else:
            raise SystemExit("".join(said))
        # What it says later is read, so that it never waits for a full pipe.
        self.log = []
        threading.Thread(target=self.drain, args=(self.process.stderr,), daemon=True).start()

    def drain(self, stream):
        for line in stream:
            self.log.append(line)

    def ask(self, method, path, body=None, headers=None):
        """Status, headers, body."""
        make = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        more = {"context": self.secure} if self.secure else {}
        connection = make("localhost" if self.secure else "127.0.0.1", self.port, timeout=120, **more)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None):
        status, _, answer = self.ask(method, path, body, headers)
        return status, json.loads(answer)

    def end(self, job, seconds=300):
        """Waits for a job's end, as it tells of it; its record."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            # A stream that breaks off before the end, or a server that is not there, is asked again.
            try:
                self.ask("GET", f"/jobs/{job}/events")
                status, record = self.json("GET", f"/jobs/{job}")
            except OSError:
                time.sleep(0.02)
                continue
            assert status == 200, (status, record)
            if record["state"] not in ("queued", "running"):
                return record
        raise SystemExit(f"job {job} has not ended")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def residents(self):
        """MiB of the server alone, and of each of its plugins' processes by its number."""
        def of(process):
            try:
                with open(f"/proc/{process}/status", encoding="ascii") as status:
                    return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024
            except (OSError, TypeError):
                return 0
        return of(self.process.pid), {child: of(child) for child in self.children()}

    def children(self):
        found = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{process}/stat", encoding="utf-8") as stat:
                    if stat.read().rsplit(")", 1)[1].split()[1] == str(self.process.pid):
                        found.append(process)
            except OSError:
                pass
        return found


def answers_of_run(host, arguments, files):
    """Probability of each file and plugin as `host run` says it."""
    done = subprocess.run([host, "run", "--json", *map(str, arguments), *map(str, files)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        result = json.loads(line)
        if "predictions" in result:
            found[result["input"]["sha256"], result["plugin"]["name"]] = [p["probability"] for p in result["predictions"]]
    assert found, done.stderr
    return found
