"""Raptor's embedding of a scan, computed with nibabel, NumPy, PyTorch and transformers alone, beside the host's.

    python tests/outside/embeddings/raptor.py HOST SCAN [BACKBONE]

The preprocessing follows docs/manifest.md, the projection plugins/raptor/README.md. Ends with 1 if any number differs by 1e-4 or
more.
"""

import json
import math
import os
import subprocess
import sys
import tempfile

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from transformers import Dinov2Model

SLICES, SIZE, PROJECTIONS, SEED = 24, 224, 10, 7
# Slices, rows and columns of each view: canonical axis (x to the right, y to the front, z to the head), and whether against it.
VIEWS = {
    "axial": [(2, False), (1, True), (0, True)],
    "coronal": [(1, False), (2, True), (0, True)],
    "sagittal": [(0, False), (2, True), (1, True)],
}


def resampled(x, axis, size):
    """One axis of a volume, linear, antialiased where it shrinks, pixel edges aligned."""
    moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    flat = torch.from_numpy(moved.reshape(1, 1, -1, moved.shape[-1]))
    out = F.interpolate(flat, size=(flat.shape[2], size), mode="bilinear", antialias=True, align_corners=False)
    return np.moveaxis(out.numpy().reshape(*moved.shape[:-1], size), -1, axis)


def slices(volume, spacing, view):
    order = [axis for axis, _ in VIEWS[view]]
    x = np.transpose(volume, order)
    for i, (_, against) in enumerate(VIEWS[view]):
        x = np.flip(x, i) if against else x
    mm = [spacing[axis] for axis in order]
    longest = max(x.shape[1] * mm[1], x.shape[2] * mm[2])
    pads = [(0, 0)]
    for i in (1, 2):
        more = max(math.floor(longest / mm[i] + 0.5) - x.shape[i], 0)
        pads.append((more // 2, more - more // 2))
    x = np.pad(x, pads, constant_values=volume.min()).astype(np.float32)
    for axis, size in [(0, SLICES), (1, SIZE), (2, SIZE)]:
        x = resampled(x, axis, size)
    low, high = np.percentile(volume.astype(np.float32), [0.5, 99.5])
    return np.clip((x - low) / (high - low), 0, 1).astype(np.float32)


def standard_normal(seed, n):
    """SplitMix64 and Box-Muller, in the plugin's order."""
    mask, state, values = (1 << 64) - 1, seed, []

    def uniform():
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)

    while len(values) < n:
        u, v = 1.0 - uniform(), uniform()
        radius = math.sqrt(-2.0 * math.log(u))
        values += [radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)]
    return np.array(values[:n], np.float32)


def embedding(scan, backbone):
    image = nibabel.as_closest_canonical(nibabel.load(scan))
    volume, spacing = np.asarray(image.get_fdata(), np.float64), nibabel.affines.voxel_sizes(image.affine)
    model = Dinov2Model.from_pretrained(backbone, attn_implementation="eager", dtype=torch.float32).eval()
    looks = json.load(open(os.path.join(backbone, "preprocessor_config.json")))
    mean, std = (torch.tensor(looks[key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))
    d = model.config.hidden_size
    projection = standard_normal(SEED, d * PROJECTIONS).reshape(d, PROJECTIONS) / np.float32(math.sqrt(d))
    parts = []
    for view in VIEWS:
        pixels = torch.from_numpy(slices(volume, spacing, view)).unsqueeze(1).repeat(1, 3, 1, 1)
        with torch.no_grad():
            tokens = torch.cat([model((chunk - mean) / std).last_hidden_state for chunk in pixels.split(4)])
        parts.append((tokens.mean(0).numpy() @ projection).ravel())
    return np.concatenate(parts)


def main(host, scan, backbone="backbones/dinov2-small"):
    with tempfile.TemporaryDirectory() as work:
        table = os.path.join(work, "t.csv")
        with open(table, "w") as file:
            file.write(f"case,image\na,{os.path.abspath(scan)}\n")
        out = os.path.join(work, "out.safetensors")
        subprocess.run([host, "embed", "--table", table, "--plugin", "raptor", "--backbone", backbone, "--out", out, "--quiet"], check=True)
        theirs = load_file(out)["embeddings"][0]
    ours = embedding(scan, backbone)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    farthest = float(np.abs(ours - theirs).max())
    print(f"{len(ours)} numbers from {ours.min():.2f} to {ours.max():.2f}; farthest apart {farthest:.2e}")
    return int(farthest >= 1e-4)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
