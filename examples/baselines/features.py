"""Features of any model under logistic regression, on the folds of a benchmark: the predictions join its table.

    host embed --table cohorts/lidc_nodules/table.csv --plugin raptor --out raptor.safetensors
    python3 examples/baselines/features.py BENCHMARK/folds/TASK.csv raptor.safetensors OUT.csv

FEATURES.safetensors holds `embeddings` [N, E] and in its metadata `cases`, a JSON list of their names, as `host embed` writes it. For each
fold the other folds but the next are fitted, each feature standardised by them; of the penalties the one is taken whose mean AUROC on the
next fold is best. Yes-or-no questions alone. OUT.json beside OUT.csv says what was fitted. Needs numpy, safetensors and scikit-learn.
"""

import csv
import json
import sys
import time
import warnings

import numpy as np
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

AROUND = {"case", "patient", "fold", "split", "mask", "point"}
PENALTIES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]


def area(truth, score):
    return roc_auc_score(truth, score) if 0 < truth.sum() < len(truth) else None


def main(folds, features, out):
    with open(folds, newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [c for c in rows[0] if c not in AROUND and not c.startswith("image.")]
    if any(r[l] not in ("", "0", "1") for r in rows for l in labels):
        raise SystemExit(f"{folds}: labels other than 0 and 1; this script answers yes-or-no questions alone")
    with safe_open(features, "numpy") as file:
        vectors = dict(zip(json.loads(file.metadata()["cases"]), file.get_tensor("embeddings")))
    missing = [r["case"] for r in rows if r["case"] not in vectors]
    if missing:
        raise SystemExit(f"{features}: no features of {len(missing)} cases, the first `{missing[0]}`; embed the benchmark's table")
    x = np.array([vectors[r["case"]] for r in rows], np.float64)
    fold = np.array([int(r["fold"]) for r in rows])
    names, begin = sorted(set(fold)), time.perf_counter()
    said, taken = np.zeros((len(rows), len(labels))), []
    for c, label in enumerate(labels):
        known = np.array([r[label] != "" for r in rows])
        truth = np.array([r[label] == "1" for r in rows])
        for n, test in enumerate(names):
            val = names[(n + 1) % len(names)]
            train = known & (fold != test) & (fold != val)
            scale, best = StandardScaler().fit(x[train]), (-1.0, None)
            for penalty in PENALTIES:
                model = LogisticRegression(C=penalty, max_iter=3000).fit(scale.transform(x[train]), truth[train])
                chosen = known & (fold == val)
                reached = area(truth[chosen], model.decision_function(scale.transform(x[chosen])))
                if (reached or 0.0) > best[0]:
                    best = (reached or 0.0, model, penalty)
            here = fold == test
            said[here, c] = best[1].predict_proba(scale.transform(x[here]))[:, 1]
            taken.append(best[2])
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "fold", *labels, *(f"p_{l}" for l in labels)])
        for row, p in zip(rows, said):
            writer.writerow([row["case"], row["patient"] or row["case"], row["fold"], *(row[l] for l in labels), *(f"{v:.9f}" for v in p)])
    with open(out.removesuffix(".csv") + ".json", "w") as file:
        json.dump({"parameters": len(labels) * (x.shape[1] + 1), "training_minutes": (time.perf_counter() - begin) / 60, "C": taken}, file, indent=1)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    warnings.filterwarnings("ignore", category=UserWarning)
    main(*sys.argv[1:])
