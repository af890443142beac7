"""How often the strongest point of a heatmap lies inside the mask, beside chance.

    python3 examples/nodules/heat.py TABLE.csv RUN PLUGIN

RUN is the folder of `host run --plugin PLUGIN TABLE.csv --out RUN`. Chance is the mask's share of the voxels that the heatmap covers at
all. Within means inside the mask, or at most the length of a patch (5 mm) from it. Intervals are over draws of patients. Needs numpy,
scipy and nibabel.
"""

import csv
import os
import sys

import nibabel
import numpy as np
from scipy.ndimage import distance_transform_edt

from dice import interval

NEAR_MM = 5.0


def main(table, run, plugin):
    folder = os.path.dirname(os.path.abspath(table))
    inside, near, chance, chance_near, patients = [], [], [], [], []
    for row in csv.DictReader(open(table, newline="")):
        path = os.path.join(run, row["case"], plugin, "heatmap.nii.gz")
        if not os.path.exists(path):
            continue
        picture = nibabel.load(path)
        heat = np.asarray(picture.dataobj)
        mask = np.asarray(nibabel.load(os.path.join(folder, row["mask"])).dataobj) > 0.5
        away = distance_transform_edt(~mask, sampling=picture.header.get_zooms()[:3])
        peak = np.unravel_index(heat.argmax(), heat.shape)
        seen = heat > 0
        inside.append(mask[peak])
        near.append(away[peak] <= NEAR_MM)
        chance.append(mask[seen].mean() if seen.any() else 0.0)
        chance_near.append((away[seen] <= NEAR_MM).mean() if seen.any() else 0.0)
        patients.append(row["patient"])
    print(f"{plugin}: {len(inside)} heatmaps of {len(set(patients))} patients")
    print("peak inside the mask:", interval(inside, patients), "by chance:", interval(chance, patients))
    print(f"peak within {NEAR_MM:g} mm:", interval(near, patients), "by chance:", interval(chance_near, patients))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
