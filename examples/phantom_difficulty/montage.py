"""A picture of a few phantom cases: `montage.py FOLDER TASK OUT.png [CASES] [--marks] [--slices N]`.

One row per case and sequence: axial slices around the lesion where there is one (outlined with --marks), else around
the middle. FOLDER holds what `host phantom` wrote.
"""

import csv
import json
import sys
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

WINDOWS = {"lung_nodule": (-1000, 400), "liver_injury": (-50, 200)}


def ras(path):
    return nibabel.as_closest_canonical(nibabel.load(path))


def main():
    flags = [a for a in sys.argv[1:] if a.startswith("--")]
    folder, task, out, *more = [a for a in sys.argv[1:] if not a.startswith("--")]
    count = int(more[0]) if more else 4
    folder = Path(folder)
    rows = list(csv.DictReader((folder / "table.csv").open()))[:count]
    truth = {c["case"]: c for c in json.loads((folder / "truth.json").read_text())["cases"]}
    lines = []
    for row in rows:
        found = next((v for v in truth[row["case"]].values() if isinstance(v, list)), [])
        mask = ras(folder / row["mask"]).get_fdata() > 0 if row["mask"] else None
        for name in [k for k in row if k.startswith("image")]:
            if not row[name]:
                continue
            scan = ras(folder / row[name])
            voxels, n = scan.get_fdata(), scan.shape[2]
            if task in WINDOWS:
                low, high = WINDOWS[task]
            else:
                low, high = 0, np.percentile(voxels[voxels > 0], 99.5)
            middle = n // 2
            if mask is not None and mask.any():
                middle = int(np.argmax(mask.sum((0, 1))))
            elif found:
                point = np.linalg.inv(scan.affine) @ [*found[0]["centre_mm"], 1]
                middle = int(np.clip(round(point[2]), 1, n - 2))
            line = []
            for z in sorted({int(n * 0.2), int(n * 0.4), int(np.clip(middle, 0, n - 1)), int(n * 0.65), int(n * 0.85)}):
                grey = np.clip((voxels[:, :, z] - low) / (high - low), 0, 1) * 255
                rgb = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
                if mask is not None and "--marks" in flags:
                    m = mask[:, :, z]
                    edge = m & ~(np.roll(m, 1, 0) & np.roll(m, -1, 0) & np.roll(m, 1, 1) & np.roll(m, -1, 1))
                    rgb[edge] = (255, 60, 60)
                picture = Image.fromarray(rgb[::-1, ::-1].transpose(1, 0, 2))
                mm = scan.header.get_zooms()
                line.append(picture.resize((200, round(200 * rgb.shape[1] * mm[1] / (rgb.shape[0] * mm[0])))))
            lines.append(line)
    width = max(len(line) for line in lines) * 200
    sheet = Image.new("RGB", (width, sum(line[0].height for line in lines)))
    top = 0
    for line in lines:
        for i, picture in enumerate(line):
            sheet.paste(picture, (200 * i, top))
        top += line[0].height
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main()
