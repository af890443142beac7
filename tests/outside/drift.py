"""How far scans lie from the training cases of lung_nodule's weights: unseen chest phantoms, the same with noise, abdomens and heads.

    python drift.py HOST PLUGIN WEIGHTS [CASES | --short]

Chest phantoms of another seed must mostly be inside (at most 1 in 20 outside), abdomens, heads and chests with strong noise outside.
Needs NumPy; WEIGHTS have a reference (`host train`, `host weights reference`). `--short`: six chests and strong noise alone, a quarter of
a processor-minute to a whole one.
"""

import gzip
import json
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

NOISE = (20, 40, 80, 160)  # HU
STRONG = 160


def phantoms(host, task, count, out):
    subprocess.run([host, "-q", "phantom", task, "--count", str(count), "--seed", "7", "--out", out], check=True,
                   stdout=subprocess.DEVNULL)
    return sorted(path for path in out.glob("*.nii.gz") if "mask" not in path.name)


def noisy(path, sigma, out):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    assert struct.unpack_from("<h", raw, 70)[0] == 4, "int16"
    voxels = np.frombuffer(bytes(raw[352:]), "<i2")
    noise = np.random.default_rng(sigma).normal(0, sigma, voxels.size)
    raw[352:] = np.clip(np.rint(voxels + noise), -1024, 3071).astype("<i2").tobytes()
    to = out / f"{sigma}_{path.name[:-3]}"
    to.write_bytes(raw)
    return to


def novelties(host, plugin, weights, files):
    done = subprocess.run([host, "-q", "run", "--plugin", plugin, "--weights", weights, "--json", *map(str, files)],
                          stdout=subprocess.PIPE, text=True, check=False)
    return [json.loads(line)["novelty"] for line in done.stdout.splitlines()]


def main():
    host, plugin, weights = sys.argv[1:4]
    short = "--short" in sys.argv[4:]
    count = 6 if short else int(sys.argv[4]) if len(sys.argv) > 4 else 20
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        chests = phantoms(host, "lung_nodule", count, folder / "chest")
        few = max(3, count // 3)
        abdomens = phantoms(host, "liver_injury", few, folder / "abdomen")
        heads = [path for path in phantoms(host, "brain_mri", few, folder / "head") if "t1" in path.name]
        groups = {"chest, another seed": chests, "abdomen": abdomens, "head": heads}
        for sigma in (STRONG,) if short else NOISE:
            groups[f"chest, noise of {sigma} HU"] = [noisy(path, sigma, folder) for path in chests[:few]]
        outside = {}
        for name, files in groups.items():
            all_of = novelties(host, plugin, weights, files)
            assert len(all_of) == len(files), name
            outside[name] = statistics.mean(n["outside"] for n in all_of)
            distances = sorted(n["distance"] for n in all_of)
            print(f"{name}: {len(files)} scans, distance {distances[0]:.1f} to {distances[-1]:.1f}, median "
                  f"{statistics.median(distances):.1f}; limit {all_of[0]['limit']:.1f}; outside {100 * outside[name]:.0f} %")
        assert outside["chest, another seed"] <= max(0.05, 1 / count), outside
        for name in ("abdomen", "head", f"chest, noise of {STRONG} HU"):
            assert outside[name] == 1, (name, outside)


if __name__ == "__main__":
    main()
