"""How much of the label is told by what must not tell it, seen as a plugin sees it: `plugin_probe.py FOLDER TASK HOST`.

FOLDER holds what `host phantom TASK` wrote. Histograms are taken from the scans; class tokens come from
`HOST embed --plugin TASK`, one call per case and view, without weights (the plugin's preprocessing, the frozen
backbone), and are kept in FOLDER/tokens.npz. A multi-class label is measured one against the rest. A missing
sequence counts as the mean of the others' cases, and says so in a column of its own. Prints one JSON object: per
label and arm the AUROC of out-of-fold predictions with DeLong's 95 % interval.
"""

import csv
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nibabel
import numpy as np
from safetensors.numpy import load_file
from sklearn.ensemble import HistGradientBoostingClassifier

from probe import auroc, linear, out_of_fold

ROOT = Path(__file__).resolve().parents[2]


def histogram(path, modality):
    """Log shares of voxels per bin: of 64 HU as in probe.py, or of 1/40 of the 99th percentile above 0."""
    values = np.asarray(nibabel.load(path).dataobj, np.float32)
    if modality == "CT":
        # Fine bins as well where an enhanced liver lies.
        edges = np.unique(np.r_[np.arange(-1024, 1025, 64), np.arange(-64, 256, 8)])
        counts, _ = np.histogram(np.clip(values, -1024, 1023), edges)
    else:
        values = values / np.percentile(values[values > 0], 99)
        counts, _ = np.histogram(np.clip(values, 0, 1.999), np.arange(0, 2.001, 0.025))
    return np.log(counts / values.size + 1e-6)


def embed(host, plugin, view, path):
    """Class tokens [S, d] of a scan."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/f.safetensors"
        call = [host, "embed", str(path), "--plugin", plugin, "--view", view, "--precision", "bf16", "--out", out]
        subprocess.run(call, check=True, capture_output=True)
        return load_file(out)["class"]


def filled(rows):
    """[N, d] with a column for what is missing; None becomes the mean of the rest."""
    mean = np.mean([r for r in rows if r is not None], 0)
    return np.array([np.r_[mean if r is None else r, float(r is None)] for r in rows])


def main():
    folder, task, host = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    manifest = tomllib.loads((ROOT / f"plugins/{task}/plugin.toml").read_text())
    views = manifest["view"]
    rows = list(csv.DictReader((folder / "table.csv").open()))
    files = [[r.get(f"image.{v['name']}", r.get("image")) for v in views] for r in rows]
    cases = [r["case"] for r in rows]
    kept = folder / "tokens.npz"
    if not kept.exists():
        tokens = {}
        for n, (case, paths) in enumerate(zip(cases, files)):
            for view, path in zip(views, paths):
                if path:
                    tokens[f"{case}/{view['name']}"] = embed(host, task, view["name"], folder / path).astype(np.float16)
            if n % 25 == 0:
                print(n, file=sys.stderr, flush=True)
        np.savez_compressed(kept, **tokens)
    stored = np.load(kept)
    arms = {}
    for arm, summary in (("mean", lambda t: t.mean(0)), ("max", lambda t: t.max(0))):
        parts = []
        for view in views:
            keys = [f"{c}/{view['name']}" for c in cases]
            parts.append(filled([summary(stored[k].astype(np.float32)) if k in stored else None for k in keys]))
        arms[f"class_tokens_{arm}_logistic"] = (np.hstack(parts), linear)
    parts = [
        filled([histogram(folder / f[i], view["modality"]) if f[i] else None for f in files])
        for i, view in enumerate(views)
    ]
    arms["histogram_logistic"] = (np.hstack(parts), linear)
    boosting = lambda: HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, min_samples_leaf=8)
    arms["histogram_boosting"] = (np.hstack(parts), boosting)
    labels = manifest["task"]["labels"]
    result = {"task": task, "cases": len(rows)}
    for label in labels:
        y = np.array([r["class"] == label if "class" in r else r[label] == "1" for r in rows]).astype(int)
        result[label] = {"positives": int(y.sum()), **{k: auroc(y, out_of_fold(make(), x, y)) for k, (x, make) in arms.items()}}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
