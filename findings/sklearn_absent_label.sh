#!/usr/bin/env bash
# scikit-learn 1.9.1 on two labels of which one has no positive case in the test set, as rare findings often have none.
#
# Seen: average_precision_score counts the absent label as 0, so that the macro figure of a perfect model is 0.5;
# roc_auc_score of the same arrays is not a number. Both only warn.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet scikit-learn==1.9.1
venv/bin/python -W ignore - <<'P'
import math

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

truth = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
score = np.array([[0.9, 0.1], [0.1, 0.2], [0.8, 0.1], [0.2, 0.3]])
precision = average_precision_score(truth, score, average="macro")
auroc = roc_auc_score(truth, score, average="macro")
print("macro average precision", precision, "; macro AUROC", auroc)
assert precision == 0.5 and math.isnan(auroc), "this has changed"
P
