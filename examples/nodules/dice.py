"""How well a prompt plugin segments what is pointed at, beside thresholding and growing from the point.

    python3 examples/nodules/dice.py POINTS/table.csv RUN PLUGIN [HOST] [--out DICE.csv]

RUN is what `host train --folds` left: each fold's weights answer the fold that they did not see (`host run --segmentation`). Dice is
of the points inside a nodule; of the far ones, the share whose answer is empty, its median volume and the mean score. The baseline
takes the voxels above a threshold that hang together with the point, within a radius; both are chosen on the other folds. Intervals
are over draws of patients. Needs numpy, scipy and nibabel.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile

import nibabel
import numpy as np
from scipy.ndimage import label

THRESHOLDS = [-700, -600, -500, -400, -300, -200, -100]
RADII = [6, 8, 10, 12, 16, 20]


def dice(a, b):
    both = a.sum() + b.sum()
    return 1.0 if both == 0 else 2.0 * (a & b).sum() / both


def grown(image, affine, point, threshold, radius):
    """Voxels above a threshold that hang together with the one nearest to the point, at most a radius (mm) from it."""
    seed = np.rint(np.linalg.inv(affine) @ [*point, 1.0])[:3].astype(int)
    seed = tuple(np.clip(seed, 0, np.array(image.shape) - 1))
    grid = np.moveaxis(np.indices(image.shape), 0, -1) - np.array(seed)
    near = np.linalg.norm(grid @ affine[:3, :3].T, axis=-1) <= radius
    parts, _ = label((image > threshold) & near)
    return parts == parts[seed] if parts[seed] else np.zeros(image.shape, bool)


def interval(values, patients, draws=1000):
    """Mean and its 95 % interval over draws of patients with replacement."""
    values, patients = np.array(values), np.array(patients)
    names, index = np.unique(patients, return_inverse=True)
    draw = np.random.default_rng(0)
    means = []
    for _ in range(draws):
        times = np.bincount(draw.integers(len(names), size=len(names)), minlength=len(names))[index]
        means.append((values * times).sum() / max(times.sum(), 1))
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("table")
    options.add_argument("run")
    options.add_argument("plugin")
    options.add_argument("host", nargs="?", default="target/release/host")
    options.add_argument("--out", default="dice.csv")
    options.add_argument("--backbone", default="dinov2-small")
    given = options.parse_args()
    rows = {row["case"]: row for row in csv.DictReader(open(given.table, newline=""))}
    said = {row["case"]: row for row in csv.DictReader(open(os.path.join(given.run, "predictions.csv"), newline=""))}
    folds = sorted({row["fold"] for row in said.values()})
    name = os.path.basename(given.plugin).removeprefix("lib").removesuffix(".so")
    found = []
    with tempfile.TemporaryDirectory() as work:
        for fold in folds:
            table = os.path.join(work, f"{fold}.csv")
            with open(table, "w", newline="") as file:
                writer = csv.DictWriter(file, ["case", "image", "mask", "point"], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows[case] for case, row in said.items() if row["fold"] == fold)
            weights = os.path.join(given.run, f"fold-{int(fold)}", f"{name}.safetensors")
            call = [given.host, "run", "--plugin", given.plugin, "--weights", weights, table, "--segmentation", "--heatmap=false",
                    "--quiet", "--backbone", given.backbone, "--threads", "1", "--out", os.path.join(work, fold)]
            subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        for case, row in said.items():
            picture = nibabel.load(rows[case]["image"])
            truth = np.asarray(nibabel.load(rows[case]["mask"]).dataobj) > 0.5
            answer = os.path.join(work, row["fold"], case, name)
            mask = np.asarray(nibabel.load(os.path.join(answer, "segmentation.nii.gz")).dataobj) > 0.5
            point = [float(v) for v in rows[case]["point"].split()]
            image = np.asarray(picture.dataobj).astype(np.float32)
            grid = {(t, r): grown(image, picture.affine, point, t, r) for t in THRESHOLDS for r in RADII}
            ml = float(np.prod(picture.header.get_zooms()[:3])) / 1000
            score = json.load(open(os.path.join(answer, "result.json")))["predictions"][0]["probability"]
            found.append({"case": case, "patient": rows[case]["patient"], "fold": row["fold"], "inside": rows[case]["nodule_here"] == "1",
                          "dice": dice(mask, truth), "ml": mask.sum() * ml, "score": score,
                          "grown": {key: (dice(m, truth), m.sum() * ml) for key, m in grid.items()}})
    for fold in folds:
        others = [f for f in found if f["fold"] != fold and f["inside"]]
        best = max(others[0]["grown"], key=lambda key: np.mean([f["grown"][key][0] for f in others]))
        for f in found:
            if f["fold"] == fold:
                f["baseline"], f["baseline_ml"], f["chosen"] = *f["grown"][best], best
    inside, far = ([f for f in found if f["inside"] == side] for side in (True, False))
    with open(given.out, "w", newline="") as file:
        keys = ["case", "patient", "fold", "inside", "dice", "ml", "score", "baseline", "baseline_ml"]
        writer = csv.DictWriter(file, keys, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)
    patients = [f["patient"] for f in inside]
    print(f"{len(inside)} points inside nodules of {len(set(patients))} patients, {len(folds)} folds")
    print("Dice of the plugin:", interval([f["dice"] for f in inside], patients))
    print("Dice of threshold and connect:", interval([f["baseline"] for f in inside], patients), sorted({f["chosen"] for f in inside}))
    print("plugin minus baseline:", interval([f["dice"] - f["baseline"] for f in inside], patients))
    if far:
        print(f"{len(far)} far points: empty {np.mean([f['ml'] == 0 for f in far]):.3f}, median {np.median([f['ml'] for f in far]):.3f} ml "
              f"(inside {np.median([f['ml'] for f in inside]):.3f}); score {np.mean([f['score'] for f in far]):.3f} "
              f"(inside {np.mean([f['score'] for f in inside]):.3f}); threshold and connect empty "
              f"{np.mean([f['baseline_ml'] == 0 for f in far]):.3f}")


if __name__ == "__main__":
    sys.exit(main())
