"""A compressed CT of 512 x 512 x 600: read, resampled and sliced by `host run`, and by nibabel, NumPy and SciPy, in turn.

    python examples/bench/reading.py --host target/release/host --plugin liver_injury

The host's time is what its result calls `read` and `preprocess`; its peak memory is that of the whole process. The peer reads with
nibabel, turns the volume to RAS, and zooms it to as many slices of the same size by scipy.ndimage (linear). Needs nibabel, numpy, scipy.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import scipy.ndimage


def ct(path):
    """Air, an elliptic body with noise in whole HU and two lungs: it compresses about as a scan does."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    lungs = ((np.abs(x) - 0.35) / 0.25) ** 2 + (y / 0.4) ** 2 < 1
    plane = np.where(lungs, -850, np.where(body, 40, -1000))
    volume = np.empty((512, 512, 600), np.int16)
    for z in range(600):
        volume[:, :, z] = (plane + rng.normal(0, 12, plane.shape)).round().T
    nibabel.Nifti1Image(volume, np.diag([-0.8, -0.8, 1.0, 1.0])).to_filename(path)


def peer(path, slices, size):
    start = time.perf_counter()
    image = nibabel.as_closest_canonical(nibabel.load(path))
    volume = image.get_fdata(dtype=np.float32)
    small = scipy.ndimage.zoom(volume, (size / 512, size / 512, slices / 600), order=1)
    np.clip((small + 1000) / 1400, 0, 1)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--plugin", default="liver_injury")
    parser.add_argument("--slices", type=int, default=32, help="as the plugin's view has")
    parser.add_argument("--size", type=int, default=196, help="as the plugin's view has")
    parser.add_argument("-n", "--repetitions", type=int, default=5)
    args = parser.parse_args()
    path = Path(tempfile.mkdtemp()) / "ct.nii.gz"
    ct(path)
    ours, theirs, peaks = [], [], []
    for _ in range(args.repetitions):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        done = subprocess.run([args.host, "-q", "run", "--plugin", args.plugin, "--json", str(path)], stdout=subprocess.PIPE, check=True)
        peaks.append(max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before))
        timing = json.loads(done.stdout)["timing_ms"]
        ours.append((timing["read"] + timing["preprocess"]) / 1e3)
        theirs.append(peer(path, args.slices, args.size))
    ratio = np.array(ours) / np.array(theirs)
    voxels = 512 * 512 * 600 * 4 / 1024
    print(f"{path.stat().st_size / 1e6:.0f} MB compressed, {args.repetitions} repetitions in turn, load {os.getloadavg()[0]:.1f}")
    print(f"host: read and sliced in {np.median(ours):.2f} s; nibabel, NumPy, SciPy: {np.median(theirs):.2f} s")
    print("the host takes {:.2f} [{:.2f} {:.2f}] of their time".format(*np.percentile(ratio, [50, 25, 75])))
    print(f"peak memory of the host: {max(peaks) / 1024:.0f} MiB, {max(peaks) / voxels:.2f} x the voxels as f32")


if __name__ == "__main__":
    main()
