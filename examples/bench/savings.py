"""What each saving of arithmetic costs and brings: time, area under the ROC curve, logits and heatmaps beside exact f32.

    host phantom lung_nodule --count 200 --seed 2 --out unseen
    python examples/bench/savings.py --host target/release/host --plugin lung_nodule --data unseen/table.csv
    python examples/bench/savings.py --plugin nodule_ratings --data table.csv --folds run/predictions.csv --weights 'run/fold-{fold}/w.safetensors'

A saving is a way to call `host run`: a number format, `--merge`, weights that drop the background, or some of them together. `drop`
without `--drop-weights` takes the plugin's own, told to drop what they were trained with. With `--folds`, a predictions file, each fold is
answered by its own weights. The calls are made in turn. The AUROC of one label has DeLong's interval (DeLong et al. 1988), its difference to
exact f32 DeLong's paired test; of several labels, or within folds, there are the means and, over draws of cases, the difference's 95 %
interval. Heatmaps of the first `--heatmaps` cases are compared voxel by voxel where either is above 0. Needs numpy, nibabel, safetensors.
"""

import argparse
import csv
import json
import math
import subprocess
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

EXACT = "f32"


def dropping(weights, to):
    """The same weights, which say of themselves that they drop the background."""
    with safe_open(weights, "numpy") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    info = json.loads(metadata["anymc3d.weights/1"])
    info.setdefault("variant", {}).setdefault("view", {})["background"] = "drop"
    metadata["anymc3d.weights/1"] = json.dumps(info)
    save_file(tensors, to, metadata)


def placements(scores, labels):
    """Of each positive the share of negatives below it, and of each negative the share of positives above it."""
    higher = lambda a, b: (a[:, None] > b[None]).mean(1) + 0.5 * (a[:, None] == b[None]).mean(1)
    positive, negative = scores[labels], scores[~labels]
    return higher(positive, negative), 1 - higher(negative, positive)


def delong(a, b, labels):
    """AUROC of a with its 95 % interval, and the p value of its difference to b."""
    (a1, a0), (b1, b0) = placements(a, labels), placements(b, labels)
    variance = lambda x, y: np.var(x, ddof=1) / len(x) + np.var(y, ddof=1) / len(y)
    half = 1.96 * math.sqrt(variance(a1, a0))
    spread = math.sqrt(variance(a1 - b1, a0 - b0))
    difference = a1.mean() - b1.mean()
    p = math.erfc(abs(difference) / spread / math.sqrt(2)) if spread > 0 else 1.0
    return a1.mean(), (a1.mean() - half, a1.mean() + half), difference, p


def mean_area(logits, truths, folds):
    """Of each label within each fold that has both answers, and of these areas the mean. Logits and truths [N, labels]."""
    areas = []
    for c in range(truths.shape[1]):
        for fold in np.unique(folds):
            here = (folds == fold) & ~np.isnan(truths[:, c])
            yes = truths[here, c] > 0.5
            if yes.any() and not yes.all():
                areas.append(placements(logits[here, c], yes)[0].mean())
    return np.mean(areas)


def said_of(logits, base, truths, folds):
    """AUROC with its interval, and its difference to `base`'s, as cells of the table."""
    if truths.shape[1] == 1 and len(np.unique(folds)) == 1:
        area, (low, high), difference, p = delong(logits[:, 0], base[:, 0], truths[:, 0] > 0.5)
        return f"{area:.4f} ({low:.3f} to {high:.3f})", f"{difference:+.4f}, {p:.2f}"
    draw, differences = np.random.default_rng(1), []
    for _ in range(1000):
        cases = draw.integers(len(truths), size=len(truths))
        few = [a[cases] for a in (logits, base, truths, folds)]
        differences.append(mean_area(few[0], *few[2:]) - mean_area(few[1], *few[2:]))
    low, high = np.percentile(differences, [2.5, 97.5])
    area = mean_area(logits, truths, folds)
    return f"{area:.4f}", f"{area - mean_area(base, truths, folds):+.4f} ({low:+.4f} to {high:+.4f})"


class Saving:
    """A way to call `host run`."""

    def __init__(self, args, name, weights, dropped):
        parts = name.split()
        precision = next((part for part in parts if part in ("int16", "int8", "bf16", "f32")), EXACT)
        self.command = [args.host, "-q", "run", "--plugin", args.plugin, "--precision", precision]
        self.weights = dropped if "drop" in parts else weights
        for part in parts:
            if part.startswith("merge="):
                self.command += ["--merge", part.removeprefix("merge=")]
        self.command += ["--threads", str(args.threads)] if args.threads else []

    def __call__(self, fold, table, more):
        start = time.perf_counter()
        command = self.command + ["--weights", self.weights.replace("{fold}", fold)] + more + [str(table)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return time.perf_counter() - start, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--plugin", default="lung_nodule")
    parser.add_argument("--weights", help="of the plugin, {fold} in their path [default: those beside plugins/NAME]")
    parser.add_argument("--folds", help="a predictions file whose column fold says by which weights a case is answered")
    parser.add_argument("--data", required=True, help="a table as `host eval` takes it")
    parser.add_argument("--drop-weights", help="weights that were trained with the background dropped")
    parser.add_argument("--savings", default="int16;drop;int16 drop;merge=4;merge=8;int16 merge=8;int16 drop merge=8")
    parser.add_argument("--heatmaps", type=int, default=10)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    weights = args.weights or f"plugins/{args.plugin}/{args.plugin}.safetensors"
    dropped = args.drop_weights or str(folder / "dropping.safetensors")
    savings = [EXACT] + [s.strip() for s in args.savings.split(";")]
    if not args.drop_weights and any("drop" in saving for saving in savings):
        dropping(weights, dropped)
    with open(args.data, newline="") as file:
        rows = list(csv.DictReader(file))
    here = Path(args.data).resolve().parent
    for row in rows:
        for column in row:
            if (column.startswith("image") or column == "mask") and row[column]:
                row[column] = str(here / row[column])
    fold_of = {row["case"]: "" for row in rows}
    if args.folds:
        with open(args.folds, newline="") as file:
            fold_of = {row["case"]: row["fold"] for row in csv.DictReader(file)}
        rows = [row for row in rows if row["case"] in fold_of]

    def table_of(name, rows):
        with open(folder / name, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return folder / name

    folds = sorted(set(fold_of[row["case"]] for row in rows))
    tables = {fold: table_of(f"fold{fold}.csv", [row for row in rows if fold_of[row["case"]] == fold]) for fold in folds}
    of_first = [row for row in rows if fold_of[row["case"]] == folds[0]][: args.heatmaps]
    answers, maps = {}, {}
    for name in savings:
        saving, out = Saving(args, name, weights, dropped), folder / name.replace(" ", "_")
        if of_first:
            saving(folds[0], table_of("heatmaps.csv", of_first), ["--out", str(out)])
        maps[name] = [nibabel.load(f).get_fdata(dtype=np.float32) for f in sorted(out.glob("**/heatmap*.nii.gz"))]
        each = [saving(fold, table, ["--json"]) for fold, table in tables.items()]
        lines = {line["case"]: line for _, few in each for line in few}
        answered = [lines[row["case"]] for row in rows]
        logits = np.array([[p["logit"] for p in line["predictions"]] for line in answered])
        patches = np.mean([v.get("kept_patches", 1.0) for line in answered for v in line["views"]])
        answers[name] = sum(spent for spent, _ in each), logits, patches
    labels = [p["label"] for p in answered[0]["predictions"]]
    truth = lambda row, label: float(row["class"] == label) if "class" in row else float(row[label] or "nan")
    truths = np.array([[truth(row, label) for label in labels] for row in rows])
    fold = np.array([fold_of[row["case"]] for row in rows])

    print(f"{len(rows)} cases of {args.plugin}, positive: {', '.join(f'{l} {(truths[:, c] > 0.5).sum()}' for c, l in enumerate(labels))}\n")
    print("| | times as fast | patches | AUROC | difference | logit off by, median and most | heatmaps' correlation |")
    print("|---|---|---|---|---|---|---|")
    base_seconds, base, _ = answers[EXACT]
    for name, (spent, logits, patches) in answers.items():
        area, difference = said_of(logits, base, truths, fold)
        apart, near = np.abs(logits - base), []
        for a, b in zip(maps[name], maps[EXACT]):
            shown = (a > 0) | (b > 0)
            near.append(np.corrcoef(a[shown], b[shown])[0, 1])
        print(f"| {name} | {base_seconds / spent:.2f} | {patches:.2f} | {area} | {difference} "
              f"| {np.median(apart):.3f}, {apart.max():.3f} | {np.mean(near) if near else math.nan:.3f} |")


if __name__ == "__main__":
    main()
