"""What each saving of arithmetic costs and brings: time, area under the ROC curve, logits and heatmaps beside exact f32.

    host phantom lung_nodule --count 200 --seed 2 --out unseen
    python examples/bench/savings.py --host target/release/host --plugin lung_nodule --data unseen/table.csv --label nodule

A saving is a way to call `host run`: a number format, `--merge`, weights that drop the background, or some of them together. `--drop`
without weights takes the plugin's own, told to drop what they were trained with. Every saving answers all cases of the table in one
call; the calls are made in turn. The AUROC has DeLong's interval (DeLong et al. 1988), its difference to exact f32 DeLong's paired test.
Heatmaps of the first `--heatmaps` cases are compared voxel by voxel where either is above 0. Needs numpy, nibabel, safetensors.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--plugin", default="lung_nodule")
    parser.add_argument("--weights", help="of the plugin [default: those beside plugins/NAME]")
    parser.add_argument("--data", required=True, help="a table with columns case, image and the label")
    parser.add_argument("--label", required=True)
    parser.add_argument("--drop-weights", help="weights that were trained with the background dropped")
    parser.add_argument("--savings", default="int16;drop;int16 drop;merge=4;merge=8;int16 merge=8;int16 drop merge=8")
    parser.add_argument("--heatmaps", type=int, default=10)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    weights = args.weights or f"plugins/{args.plugin}/{args.plugin}.safetensors"
    dropped = args.drop_weights or str(folder / "dropping.safetensors")
    if not args.drop_weights:
        dropping(weights, dropped)
    with open(args.data) as file:
        rows = list(csv.DictReader(file))
    here = Path(args.data).parent
    labels = np.array([float(row[args.label]) > 0.5 for row in rows])
    scans = [str(here / row["image"]) for row in rows]

    def call(saving, scans, more):
        command = [args.host, "-q", "run", "--plugin", args.plugin, "--precision", "f32"]
        chosen = weights
        for part in saving.split():
            if part in ("int16", "int8", "bf16", "f32"):
                command[-1] = part
        for part in saving.split():
            if part == "drop":
                chosen = dropped
            elif part.startswith("merge="):
                command += ["--merge", part.removeprefix("merge=")]
        command += ["--weights", chosen] + (["--threads", str(args.threads)] if args.threads else [])
        start = time.perf_counter()
        done = subprocess.run(command + more + scans, check=True, stdout=subprocess.PIPE, text=True)
        return time.perf_counter() - start, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    savings = [EXACT] + [s.strip() for s in args.savings.split(";")]
    answers, maps = {}, {}
    for saving in savings:
        out = folder / saving.replace(" ", "_")
        call(saving, scans[: args.heatmaps], ["--out", str(out)])
        maps[saving] = [nibabel.load(f).get_fdata(dtype=np.float32) for f in sorted(out.glob("*/*/heatmap.nii.gz"))]
        spent, lines = call(saving, scans, ["--json"])
        logits = {line["input"]["path"]: line["predictions"][0]["logit"] for line in lines}
        patches = np.mean([v.get("kept_patches", 1.0) for line in lines for v in line["views"]])
        answers[saving] = spent, np.array([logits[scan] for scan in scans]), patches

    print(f"{len(scans)} cases of {args.plugin}, {labels.sum()} positive\n")
    print("| | times as fast | patches | AUROC | difference, p | logit off by, median and most | heatmaps' correlation |")
    print("|---|---|---|---|---|---|---|")
    base_seconds, base, _ = answers[EXACT]
    for saving, (spent, logits, patches) in answers.items():
        area, (low, high), difference, p = delong(logits, base, labels)
        apart = np.abs(logits - base)
        near = []
        for a, b in zip(maps[saving], maps[EXACT]):
            shown = (a > 0) | (b > 0)
            near.append(np.corrcoef(a[shown], b[shown])[0, 1])
        print(f"| {saving} | {base_seconds / spent:.2f} | {patches:.2f} | {area:.4f} ({low:.3f} to {high:.3f}) | {difference:+.4f}, {p:.2f} "
              f"| {np.median(apart):.3f}, {apart.max():.3f} | {np.mean(near):.3f} |")


if __name__ == "__main__":
    main()
