"""How much of the label is told by what must not tell it: the intensity histogram, and frozen DINOv2 features.

usage: probe.py FOLDER BACKBONE_DIR [--size 168] [--slices 32]

FOLDER holds the output of the example `phantom_dump`, its stdout as `cases.jsonl`. Prints one JSON object:
per arm the AUROC of out-of-fold predictions with DeLong's 95 % interval. Limits: histogram 0.70, features 0.85.
Class tokens are kept in FOLDER/tokens.npz and used again where they are of the same cases; BACKBONE_DIR `none`
leaves the features out.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cases import cases

warnings.filterwarnings("ignore", category=FutureWarning)

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def histogram(hu):
    """Share of voxels per bin of 64 HU from -1024 to 1024, as log."""
    counts, _ = np.histogram(np.clip(hu, -1024, 1023), np.arange(-1024, 1025, 64))
    return np.log(counts / hu.size + 1e-6)


def slices(hu, spacing, count, size):
    """Square pad, linear antialiased resampling of every axis, lung window: [count, size, size] in 0..1."""
    import torch
    from torch.nn.functional import interpolate

    length = max(hu.shape[0] * spacing[0], hu.shape[1] * spacing[1])
    pads = []
    for axis in (0, 1):
        more = max(0, round(length / spacing[axis]) - hu.shape[axis])
        pads.append((more // 2, more - more // 2))
    hu = np.pad(hu, pads + [(0, 0)], constant_values=hu.min())
    # Axial: rows anterior to posterior, columns right to left.
    image = torch.from_numpy(hu[::-1, ::-1].transpose(2, 1, 0).astype(np.float32))
    image = interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]
    image = interpolate(image.reshape(1, 1, image.shape[0], -1), (count, size * size), mode="bilinear", antialias=True)
    return ((image.reshape(count, size, size) + 1000) / 1400).clamp(0, 1)


def backbone(folder):
    """The frozen encoder: images [S, size, size] in 0..1 to class tokens [S, 384]."""
    import torch
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(folder, dtype=torch.float32).eval()
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]

    def encode(images):
        pixels = (images[:, None].expand(-1, 3, -1, -1) - mean) / std
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return model(pixel_values=pixels).last_hidden_state[:, 0].float().numpy()

    return encode


def auroc(y, s):
    """AUROC and DeLong's 95 % interval."""
    pos, neg = s[y == 1], s[y == 0]
    psi = (pos[:, None] > neg[None]) + 0.5 * (pos[:, None] == neg[None])
    half = norm.ppf(0.975) * np.sqrt(psi.mean(1).var(ddof=1) / len(pos) + psi.mean(0).var(ddof=1) / len(neg))
    return [round(float(v), 3) for v in (psi.mean(), psi.mean() - half, psi.mean() + half)]


def out_of_fold(model, x, y, seed=0):
    return cross_val_predict(model, x, y, cv=StratifiedKFold(5, shuffle=True, random_state=seed), method="predict_proba")[:, 1]


def linear():
    inner = StratifiedKFold(5, shuffle=True, random_state=1)
    return make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10.0 ** np.arange(-5.0, 2.0), cv=inner, scoring="roc_auc", max_iter=3000))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("folder")
    args.add_argument("backbone")
    args.add_argument("--size", type=int, default=168)
    args.add_argument("--slices", type=int, default=32)
    args = args.parse_args()
    kept = Path(args.folder) / "tokens.npz"
    encode = None if args.backbone == "none" or kept.exists() else backbone(args.backbone)
    y, histograms, tokens, seconds = [], [], [], []
    for n, (record, hu, _, spacing) in enumerate(cases(args.folder)):
        y.append(int(record["label"]))
        seconds.append(record["seconds"])
        histograms.append(histogram(hu))
        if encode:
            tokens.append(encode(slices(hu, spacing, args.slices, args.size)))
        if n % 50 == 0:
            print(n, file=sys.stderr, flush=True)
    y, histograms = np.array(y), np.array(histograms)
    arms = {
        "histogram_logistic": out_of_fold(linear(), histograms, y),
        "histogram_boosting": out_of_fold(HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, min_samples_leaf=8), histograms, y),
    }
    if encode:
        np.savez_compressed(kept, tokens=np.array(tokens, np.float16), y=y)
    if args.backbone != "none":
        stored = np.load(kept)
        assert np.array_equal(stored["y"], y), f"{kept} is of other cases; delete it"
        tokens = stored["tokens"].astype(np.float32)
        arms["class_tokens_mean_logistic"] = out_of_fold(linear(), tokens.mean(1), y)
        arms["class_tokens_max_logistic"] = out_of_fold(linear(), tokens.max(1), y)
    print(json.dumps({"cases": len(y), "positives": int(y.sum()), "seconds_per_case": round(float(np.mean(seconds)), 3), **{k: auroc(y, s) for k, s in arms.items()}}))


if __name__ == "__main__":
    main()
