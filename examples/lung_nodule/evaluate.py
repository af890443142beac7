"""AUROC with DeLong's interval, and where the heatmaps peak, from what `host run` wrote for a folder of phantoms.

usage: evaluate.py PHANTOMS RESULTS [--plugin NAME]
PHANTOMS is a folder of `host phantom lung_nodule` (table.csv, masks); RESULTS the --out of `host run`. An outside
reference: NumPy, SciPy and nibabel, none of this project's code.
"""
import argparse, csv, json, os
import nibabel as nib
import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.stats import norm, rankdata


def delong(labels, scores):
    """AUROC and its variance (DeLong 1988, by midranks as Sun and Xu 2014)."""
    pos, neg = scores[labels == 1], scores[labels == 0]
    m, n = len(pos), len(neg)
    both = rankdata(np.concatenate([pos, neg]))
    v10 = (both[:m] - rankdata(pos)) / n
    v01 = 1 - (both[m:] - rankdata(neg)) / m
    return v10.mean(), v10.var(ddof=1) / m + v01.var(ddof=1) / n


def wilson(k, n):
    z, p = norm.ppf(0.975), k / n
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("phantoms")
    args.add_argument("results")
    args.add_argument("--plugin", default="lung_nodule")
    args = args.parse_args()
    rows = list(csv.DictReader(open(f"{args.phantoms}/table.csv")))
    labels, scores, hits, chances, patches = [], [], [], [], []
    for row in rows:
        folder = f"{args.results}/{row['case']}/{args.plugin}"
        result = json.load(open(f"{folder}/result.json"))
        labels.append(int(float(row["nodule"])))
        scores.append(result["predictions"][0]["probability"])
        heatmap = f"{folder}/heatmap.nii.gz"
        if labels[-1] == 0 or not os.path.exists(heatmap):
            continue
        image = nib.load(heatmap)
        heat, mask = image.get_fdata(dtype=np.float32), nib.load(f"{args.phantoms}/{row['mask']}").get_fdata() > 0
        spacing = np.array(image.header.get_zooms()[:3])
        # One patch: the lungs' box is made square and cut into size / 14 patches a side. The box in mm is read off
        # where the heatmap is not zero: along the widest in-plane axis it spans the whole body of the stack.
        inside = np.argwhere(heat > 0)
        extent = (inside.max(0) - inside.min(0) + 1) * spacing
        axes = nib.aff2axcodes(image.affine)
        in_plane = [i for i, a in enumerate(axes) if a not in "SI"]
        patch = extent[in_plane].max() / (168 / 14)
        far = distance_transform_edt(~mask, sampling=spacing)      # mm to the nearest nodule
        peak = np.unravel_index(heat.argmax(), heat.shape)
        hits.append(far[peak] <= patch)
        chances.append((far[heat > 0] <= patch).mean())            # a peak anywhere in the stack
        patches.append(patch)
    labels, scores = np.array(labels), np.array(scores)
    auc, variance = delong(labels, scores)
    half = norm.ppf(0.975) * np.sqrt(variance)
    print(f"{args.plugin}: {len(labels)} cases, {labels.sum()} positive")
    print(f"AUROC {auc:.4f}, 95 % interval {max(0, auc - half):.4f} to {min(1, auc + half):.4f}")
    positive = scores >= 0.5
    print(f"at 0.5: sensitivity {positive[labels == 1].mean():.3f}, specificity {(~positive[labels == 0]).mean():.3f}")
    if hits:
        low, high = wilson(sum(hits), len(hits))
        print(f"heatmap peak within one patch ({np.median(patches):.1f} mm, {min(patches):.1f} to {max(patches):.1f}) of a nodule: "
              f"{np.mean(hits):.3f} ({low:.3f} to {high:.3f}); by chance {np.mean(chances):.3f}")


if __name__ == "__main__":
    main()
