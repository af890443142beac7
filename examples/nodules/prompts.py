"""Points to ask a prompt plugin at: for each marked nodule one inside it and one far from it.

    python3 examples/nodules/prompts.py TABLE.csv OUT [--nodules N] [--seed S] [--far MM]

Writes OUT/table.csv with case, patient, image, mask, point (RAS mm) and nodule_here, and an empty mask for each scan's far point:
what is asked for there is nothing. A scan without a voxel that far from its nodule has no far point. `OUT/centre.csv` has the same
rows, every point moved to its scan's centre: what a plugin reaches that is told no point. Needs numpy, scipy and nibabel.
"""

import argparse
import csv
import os

import nibabel
import numpy as np
from scipy.ndimage import distance_transform_edt


def millimetres(affine, voxel):
    return " ".join(f"{v:.4f}" for v in (affine @ [*voxel, 1.0])[:3])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("table")
    options.add_argument("out")
    options.add_argument("--nodules", type=int, help="take this many, drawn by the seed [default: all]")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--far", type=float, default=10.0, help="mm between a far point and the nodule [default: 10]")
    given = options.parse_args()
    draw = np.random.default_rng(given.seed)
    folder = os.path.dirname(os.path.abspath(given.table))
    rows = list(csv.DictReader(open(given.table, newline="")))
    if given.nodules:
        rows = [rows[i] for i in sorted(draw.permutation(len(rows))[: given.nodules])]
    os.makedirs(os.path.join(given.out, "empty"), exist_ok=True)
    asked, centred = [], []
    for row in rows:
        image, mask = (os.path.join(folder, row[name]) for name in ("image", "mask"))
        marked = nibabel.load(mask)
        inside = np.asarray(marked.dataobj) > 0.5
        distance = distance_transform_edt(~inside, sampling=marked.header.get_zooms()[:3])
        centre = millimetres(marked.affine, (np.array(inside.shape) - 1) / 2)
        places = [("in", np.argwhere(inside), mask)]
        empty = os.path.abspath(os.path.join(given.out, "empty", row["case"] + ".nii.gz"))
        far = np.argwhere(distance >= given.far)
        if len(far):
            nibabel.save(nibabel.Nifti1Image(np.zeros(inside.shape, np.uint8), marked.affine), empty)
            places.append(("far", far, empty))
        for name, voxels, target in places:
            point = millimetres(marked.affine, voxels[draw.integers(len(voxels))])
            asked.append([f"{row['case']}-{name}", row["patient"], image, target, point, int(name == "in")])
            centred.append(asked[-1][:4] + [centre, asked[-1][5]])
    for name, cases in [("table.csv", asked), ("centre.csv", centred)]:
        with open(os.path.join(given.out, name), "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "patient", "image", "mask", "point", "nodule_here"])
            writer.writerows(cases)
    print(f"{len(rows)} nodules: {sum(c[5] for c in asked)} points inside, {sum(1 - c[5] for c in asked)} far")


if __name__ == "__main__":
    main()
