"""The trivial scores that a nodule task stands beside: size, and six scalars of the mask with logistic regression.

    python3 examples/nodules/scalars.py TABLE.csv LABEL RUN/predictions.csv OUT.csv

Takes the folds of a run of `host train --folds` (its predictions.csv), fits on the other folds, and writes a predictions file of
the same cases for `host eval --predictions` and `--compare`. Needs numpy, nibabel and scikit-learn.
"""

import csv
import os
import sys

import nibabel
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler


def scalars(image, mask, diameter):
    """Longest diameter in mm, log volume in mm³, mean, standard deviation, 5th and 95th percentile in HU inside the mask."""
    picture = nibabel.load(image)
    inside = np.asarray(picture.dataobj)[np.asarray(nibabel.load(mask).dataobj) > 0.5].astype(float)
    volume = inside.size * float(np.prod(picture.header.get_zooms()[:3]))
    return [diameter, np.log(volume), inside.mean(), inside.std(), *np.percentile(inside, [5, 95])]


def main(table, label, predictions, out):
    folder = os.path.dirname(os.path.abspath(table))
    rows = {row["case"]: row for row in csv.DictReader(open(table, newline=""))}
    cases = list(csv.DictReader(open(predictions, newline="")))
    of = [rows[case["case"]] for case in cases]
    x = np.array([scalars(os.path.join(folder, r["image"]), os.path.join(folder, r["mask"]), float(r["diameter_mm"])) for r in of])
    known = np.array([r[label] != "" for r in of])
    y = np.array([float(r[label] or 0) > 0.5 for r in of]).astype(int)
    fold = np.array([case["fold"] for case in cases])
    p = np.zeros(len(y))
    areas, sizes = [], []
    for this in sorted(set(fold)):
        train, here = known & (fold != this), fold == this
        scale = StandardScaler().fit(x[train])
        model = LogisticRegression(max_iter=2000).fit(scale.transform(x[train]), y[train])
        p[here] = model.predict_proba(scale.transform(x[here]))[:, 1]
        test = known & here
        areas.append(roc_auc_score(y[test], p[test]))
        sizes.append(roc_auc_score(y[test], x[test, 0]))
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "fold", label, f"p_{label}"])
        for case, row, probability in zip(cases, of, p):
            writer.writerow([case["case"], row["patient"], case["fold"], row[label], f"{probability:.9f}"])
    print(f"{label}: mean AUROC of {len(areas)} folds: six scalars {np.mean(areas):.3f}, diameter alone {np.mean(sizes):.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
