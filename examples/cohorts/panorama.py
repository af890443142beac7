"""PANORAMA: contrast CT with and without pancreatic cancer, by the voxels of its label files.

    python3 examples/cohorts/panorama.py IMAGES LABELS OUT [--lesion 1]

IMAGES holds the batches' `PATIENT_STUDY_0000.nii.gz`, LABELS `PATIENT_STUDY.nii.gz` below manual_labels and automatic_labels of
DIAGNijmegen/panorama_labels (manual ones are taken where both are there). A case is positive where a voxel is `--lesion` (1, PDAC; 2
veins, 3 arteries, 4 pancreas, 5 duct, 6 bile duct), and OUT/masks gets that voxel's mask: it supervises, and is no input. Cases without
a label file are left out and told. Needs numpy and nibabel. Source: panorama.grand-challenge.org, under its own terms.
"""

import argparse
import glob
import os

import nibabel
import numpy as np
import tables


def convert(images, labels, out, lesion=1):
    known = {}
    for path in sorted(glob.glob(os.path.join(labels, "**", "*.nii.gz"), recursive=True)):
        name = os.path.basename(path).removesuffix(".nii.gz")
        if name not in known or "manual" in path:
            known[name] = path
    rows, without = [], 0
    os.makedirs(os.path.join(out, "masks"), exist_ok=True)
    for image in sorted(glob.glob(os.path.join(images, "**", "*_0000.nii.gz"), recursive=True)):
        name = os.path.basename(image).removesuffix("_0000.nii.gz")
        if name not in known:
            without += 1
            continue
        marked = nibabel.load(known[name])
        inside = np.rint(np.asarray(marked.dataobj)) == lesion
        mask = os.path.join(out, "masks", name + ".nii.gz")
        nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), marked.affine), mask)
        rows.append({"case": name, "patient": name.split("_")[0], "image": image, "mask": mask, "pdac": int(inside.any())})
    tables.write(os.path.join(out, "table.csv"), ["case", "patient", "image", "mask", "pdac"], rows)
    if without:
        print(f"{without} images have no label file and are left out")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("images")
    options.add_argument("labels")
    options.add_argument("out")
    options.add_argument("--lesion", type=int, default=1)
    given = options.parse_args()
    convert(given.images, given.labels, given.out, given.lesion)
