"""Reads what the example `phantom_dump` writes, in RAS order."""

import json
from pathlib import Path

import numpy as np


def to_ras(array, affine):
    """Permutes and flips a stored array so that its axes run right, anterior, superior."""
    affine = np.asarray(affine)[:3, :3]
    axes = [int(np.argmax(np.abs(affine[a]))) for a in range(3)]
    array = np.transpose(array, axes)
    for a in range(3):
        if affine[a, axes[a]] < 0:
            array = np.flip(array, a)
    spacing = [float(abs(affine[a, axes[a]])) for a in range(3)]
    return array, spacing


def cases(folder):
    """Yields (record, HU [x, y, z], mask, spacing in mm), RAS; `folder/cases.jsonl` is the dump's stdout."""
    folder = Path(folder)
    for line in (folder / "cases.jsonl").read_text().splitlines():
        record = json.loads(line)
        hu = np.fromfile(folder / f"{record['case']}.raw", "<i2").reshape(record["shape"], order="F")
        mask = np.fromfile(folder / f"{record['case']}.mask", "u1").reshape(record["shape"], order="F")
        hu, spacing = to_ras(hu, record["affine"])
        mask, _ = to_ras(mask, record["affine"])
        yield record, hu, mask, spacing
