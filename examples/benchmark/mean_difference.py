"""The difference of two methods of a benchmark, as a mean over all labels of a task, with a 95 % interval over draws of patients.

    python3 examples/benchmark/mean_difference.py ratings/cells/ratings/dinov2-small/LoRA___attention \\
        ratings/cells/ratings/dinov2-small/frozen___attention

Each argument is a cell's folder as `host benchmark` leaves it; test cases alone are compared, each scored by the run of its fold, with the
mean of the seeds. Several cells, with commas between, are settings of one method: each fold takes the one whose best epoch has the
largest area on its validation cases. Of each label the areas within the folds are averaged, then the labels. Needs numpy.
"""

import csv
import sys
from pathlib import Path

import numpy as np

DRAWS = 1000


def validated(run):
    with open(run / "metrics.csv", newline="") as rows:
        return max(float(row["val_auroc"]) for row in csv.DictReader(rows))


def best_of(folders):
    """Test scores of each seed and fold, of several cells by the one that validates best there."""
    runs = {}
    for folder in folders.split(","):
        for file in sorted(Path(folder).glob("seed-*/fold-*/test_predictions.csv")):
            runs.setdefault((file.parent.parent.name, file.parent.name), []).append(file.parent)
    # Methods that are fitted without epochs have no metrics: one cell alone is not asked for them.
    chosen = [max(cells, key=validated) if len(cells) > 1 else cells[0] for cells in runs.values()]
    if "," in folders:
        print(*sorted(f"{run.name}: {run.parent.parent.name}" for run in chosen), sep="\n", end="\n\n")
    return [run / "test_predictions.csv" for run in chosen]


def of_cell(folders):
    """Case: patient, fold, truths and mean scores of the labels (NaN: unknown)."""
    found = {}
    for file in best_of(folders):
        with open(file, newline="") as rows:
            for row in csv.DictReader(rows):
                labels = [c for c in row if f"p_{c}" in row]
                one = found.setdefault(row["case"], [row["patient"], file.parent.name, [float(row[l] or "nan") for l in labels], []])
                one[3].append([float(row[f"p_{l}"]) for l in labels])
    if not found:
        sys.exit(f"{folders}: no seed-*/fold-*/test_predictions.csv; give a cell's folder of a finished benchmark")
    return labels, found


def area(truth, score):
    """Mann and Whitney's statistic, ties as halves."""
    ordered = np.sort(score[~truth])
    below, to = np.searchsorted(ordered, score[truth], "left"), np.searchsorted(ordered, score[truth], "right")
    return ((below + to) / 2).mean() / len(ordered) if truth.any() and len(ordered) else np.nan


def main(a, b):
    (labels, ours), (others, theirs) = of_cell(a), of_cell(b)
    if labels != others or ours.keys() != theirs.keys():
        sys.exit(f"{a} and {b}: other labels or cases")
    cases = sorted(ours)
    truth = np.array([ours[c][2] for c in cases])
    fold = np.array([ours[c][1] for c in cases])
    patient = np.array([ours[c][0] for c in cases])
    scores = [np.array([np.mean(cell[c][3], 0) for c in cases]) for cell in (ours, theirs)]

    def areas(rows):
        """[2, labels]"""
        result = []
        for score in scores:
            of_labels = []
            for l in range(len(labels)):
                folds = []
                for f in np.unique(fold):
                    here = rows[(fold[rows] == f) & ~np.isnan(truth[rows, l])]
                    folds.append(area(truth[here, l] > 0.5, score[here, l]))
                of_labels.append(np.nanmean(folds))
            result.append(of_labels)
        return np.array(result)

    whole = areas(np.arange(len(cases)))
    members = [np.flatnonzero(patient == p) for p in np.unique(patient)]
    draw = np.random.default_rng(1)
    drawn = [areas(np.concatenate([members[i] for i in draw.integers(len(members), size=len(members))])) for _ in range(DRAWS)]
    drawn = np.array([d[0] - d[1] for d in drawn])
    for l, label in enumerate([*labels, "mean"]):
        of, by = (whole[:, l], drawn[:, l]) if l < len(labels) else (whole.mean(1), drawn.mean(1))
        low, high = np.percentile(by, [2.5, 97.5])
        print(f"{label:16} {of[0]:.3f} {of[1]:.3f} {of[0] - of[1]:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
