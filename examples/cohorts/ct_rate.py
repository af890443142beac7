"""CT-RATE: reconstructions with 18 labels of abnormalities.

    python3 examples/cohorts/ct_rate.py FOLDER LABELS.csv METADATA.csv OUT

FOLDER is `dataset/train` or `dataset/valid` (`train_1/train_1_a/train_1_a_1.nii.gz`), LABELS `*_predicted_labels.csv` (VolumeName and a
column per abnormality), METADATA `*_metadata.csv`. The volumes hold stored numbers and no spacing: rescale slope, intercept and spacing are
the metadata's, and OUT/images gets files in HU with them. OUT/table.csv has case, patient, image and a column per abnormality in
lower case with underscores. Needs numpy and nibabel. Source: huggingface.co/datasets/ibrahimhamamci/CT-RATE, under its own terms.
"""

import ast
import glob
import os
import re
import sys

import nibabel
import numpy as np
import tables


def convert(folder, labels, metadata, out):
    about = {row["VolumeName"]: row for row in tables.read(metadata)}
    files = {os.path.basename(f): f for f in glob.glob(os.path.join(folder, "**", "*.nii.gz"), recursive=True)}
    rows, columns = [], []
    os.makedirs(os.path.join(out, "images"), exist_ok=True)
    for row in tables.read(labels):
        name = row.pop("VolumeName")
        if name not in files or name not in about:
            continue
        facts = about[name]
        stored = nibabel.load(files[name])
        values = np.asarray(stored.dataobj, np.float32) * float(facts["RescaleSlope"]) + float(facts["RescaleIntercept"])
        # "[0.75, 0.75]", as pandas wrote it.
        rows_mm, columns_mm = (float(v) for v in ast.literal_eval(facts["XYSpacing"]))
        # The axes are those of the file; what it lacks are their lengths.
        directions = stored.affine[:3, :3] / np.linalg.norm(stored.affine[:3, :3], axis=0)
        affine = np.eye(4)
        affine[:3, :3] = directions * np.array([columns_mm, rows_mm, float(facts["ZSpacing"])])
        image = os.path.join(out, "images", name)
        nibabel.save(nibabel.Nifti1Image(np.clip(np.rint(values), -32768, 32767).astype(np.int16), affine), image)
        named = {re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_"): value for key, value in row.items()}
        columns = columns or list(named)
        case = name.removesuffix(".nii.gz")
        rows.append({"case": case, "patient": "_".join(case.split("_")[:2]), "image": image, **named})
    tables.write(os.path.join(out, "table.csv"), ["case", "patient", "image", *columns], rows)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    convert(*sys.argv[1:])
