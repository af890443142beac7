"""MedMNIST 3D (organ, nodule, adrenal, fracture, vessel, synapse): an archive as a table with its own parts.

    python3 examples/cohorts/medmnist3d.py FILE.npz OUT [--spacing MM] [--names A,B,C]

`FILE.npz:SPLIT` is a table already, wherever the host reads one; this is for what wants files. Writes OUT/table.csv with case, image,
split and the label: `label` of two classes, `class` of more, called by `--names` or c0, c1, …. Needs numpy and nibabel. Source:
https://medmnist.com (Yang et al., Scientific Data 2023, doi 10.1038/s41597-022-01721-8), each set under its own licence.
"""

import argparse
import os

import nibabel
import numpy as np
import tables


def convert(archive, out, spacing=1.0, names=None):
    data = np.load(archive)
    rows, classes = [], {int(v) for key in data.files if key.endswith("_labels") for v in data[key].ravel()}
    names = names or [f"c{i}" for i in range(max(classes) + 1)]
    column = "label" if len(names) == 2 else "class"
    os.makedirs(os.path.join(out, "images"), exist_ok=True)
    for split in ("train", "val", "test"):
        if f"{split}_images" not in data.files:
            continue
        for i, (array, label) in enumerate(zip(data[f"{split}_images"], data[f"{split}_labels"])):
            case = f"{split}-{i:06}"
            image = os.path.join(out, "images", case + ".nii.gz")
            # [D, H, W] to [W, H, D]: columns to the right, rows to the front, planes to the head, as the host takes archives.
            nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), np.diag([spacing] * 3 + [1.0])), image)
            value = int(np.ravel(label)[0])
            rows.append({"case": case, "image": image, "split": split, column: value if column == "label" else names[value]})
    tables.write(os.path.join(out, "table.csv"), ["case", "image", "split", column], rows)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("archive")
    options.add_argument("out")
    options.add_argument("--spacing", type=float, default=1.0)
    options.add_argument("--names", type=lambda text: text.split(","))
    given = options.parse_args()
    convert(given.archive, given.out, given.spacing, given.names)
