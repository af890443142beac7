#!/usr/bin/env bash
# pylibjpeg-openjpeg 2.6.0 holds Python's lock while it decodes a JPEG 2000 frame: threads decode one after the other.
#
# A good engineer would guess otherwise: NumPy, zlib, hashlib and Pillow let other threads run while their C code works, and
# thread pools around pydicom's pixel_array are common. Two threads that decode take as long as one; two processes take half.
# For a reader of series this means: decode in processes, or in a program that is not Python.
#
# Seen with pylibjpeg-openjpeg 2.6.0, NumPy 2.4.6, Python 3.11 on Linux x86-64, two cores: two threads took 1.05 of one thread's
# time, two processes 0.59. Exit 0: it is still so. Needs two cores and a network.
set -euo pipefail
[ "$(nproc)" -ge 2 ] || { echo "skipped: one core"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pylibjpeg-openjpeg==2.6.0 numpy==2.4.6
cat > "$folder/threads.py" << 'PYTHON'
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
from openjpeg.utils import decode, encode_array

FRAMES = 24


def frame():
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    noise = np.random.default_rng(1).normal(0, 30, (512, 512))
    return np.where(x**2 + y**2 < 0.8, 1000 + 200 * np.sin(9 * x) + noise, 0).clip(0, 4095).astype(np.uint16)


def work(stream):
    return int(decode(stream).sum())


def seconds(run):
    begin = time.perf_counter()
    sums = list(run())
    assert len(set(sums)) == 1
    return time.perf_counter() - begin


if __name__ == "__main__":
    stream = encode_array(frame(), photometric_interpretation=2, use_mct=False)
    streams = [stream] * FRAMES
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
        list(processes.map(work, streams[:4]))
        ratios = []
        for _ in range(5):
            one = seconds(lambda: map(work, streams))
            ratios.append((seconds(lambda: threads.map(work, streams)) / one, seconds(lambda: processes.map(work, streams)) / one))
    of_threads, of_processes = (statistics.median(r[i] for r in ratios) for i in (0, 1))
    print(f"{FRAMES} frames: two threads take {of_threads:.2f} of one thread's time, two processes {of_processes:.2f}")
    # Where even processes bring nothing, the machine has no second core free, and nothing can be said.
    assert of_threads > 0.85 or of_processes > 0.85, "threads decode side by side now"
PYTHON
"$folder/venv/bin/python" "$folder/threads.py"
