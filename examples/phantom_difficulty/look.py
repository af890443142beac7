"""Pictures of phantom cases in the lung window, nodules circled: `look.py FOLDER OUT.png [CASES]`."""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from cases import cases

folder, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 4
window = (float(sys.argv[4]), float(sys.argv[5])) if len(sys.argv) > 5 else (-1000, 400)
rows = [c for _, c in zip(range(count), cases(folder))]
fig, axes = plt.subplots(count, 6, figsize=(30, 5 * count), squeeze=False)
for row, (record, hu, mask, spacing) in zip(axes, rows):
    n = hu.shape[2]
    z = [int(n * f) for f in (0.25, 0.42, 0.58, 0.78)]
    if mask.any():
        z[1] = int(np.argmax(mask.sum((0, 1))))
    y = int(np.argmax(mask.sum((0, 2)))) if mask.any() else int(hu.shape[1] * 0.5)
    views = [(hu[:, :, k].T[::-1, ::-1], mask[:, :, k].T[::-1, ::-1], spacing[1] / spacing[0]) for k in z]
    for j in (y, int(hu.shape[1] * 0.62)):
        views.append((hu[:, j, :].T[::-1, ::-1], mask[:, j, :].T[::-1, ::-1], spacing[2] / spacing[0]))
    for ax, (image, marks, aspect) in zip(row, views):
        ax.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect)
        if marks.any() and "--marks" in sys.argv:
            ax.contour(marks, [0.5], colors="red", linewidths=0.7)
        ax.axis("off")
    row[0].set_title(f"{record['case']} {'nodule ' + str([round(d) for _, d in record['nodules']]) if record['label'] else 'none'} {hu.shape} {np.round(spacing, 2)}", loc="left")
plt.tight_layout()
plt.savefig(out, dpi=50)
