"""Is there something to find? A probe on single slices, told which of them show a nodule: `slice_probe.py FOLDER`.

Reads the class tokens that `probe.py` left in FOLDER. A slice is positive where a nodule's cross-section in it
reaches 60 mm2. Out of fold by case.
"""

import json
import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cases import cases
from probe import auroc

folder = sys.argv[1]
stored = np.load(f"{folder}/tokens.npz")
tokens, y = stored["tokens"].astype(np.float32), stored["y"]
count = tokens.shape[1]
area = np.zeros(tokens.shape[:2])
for n, (_, _, mask, spacing) in enumerate(cases(folder)):
    profile = mask.sum((0, 1)) * spacing[0] * spacing[1]
    edges = np.linspace(0, len(profile), count + 1)
    for s in range(count):
        area[n, s] = profile[int(edges[s]) : max(int(edges[s]) + 1, int(np.ceil(edges[s + 1])))].max()
shown = area > 60
fold = np.arange(len(y)) % 5
score = np.zeros(area.shape)
for k in range(5):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
    model.fit(tokens[fold != k].reshape(-1, tokens.shape[2]), shown[fold != k].ravel())
    score[fold == k] = model.decision_function(tokens[fold == k].reshape(-1, tokens.shape[2])).reshape(-1, count)
result = {"slices_shown": round(float(shown.mean()), 4), "slice_auroc": round(roc_auc_score(shown.ravel(), score.ravel()), 3)}
for low, high in ((60, 200), (200, 400), (400, 900)):
    some, none = score[(area > low) & (area <= high)], score[area == 0]
    result[f"slice_auroc_{low}_to_{high}_mm2"] = round(roc_auc_score(np.r_[np.ones(len(some)), np.zeros(len(none))], np.r_[some, none]), 3)
print(json.dumps({**result, "case_auroc_max": auroc(y, score.max(1)), "case_auroc_top3": auroc(y, np.sort(score, 1)[:, -3:].mean(1))}))
