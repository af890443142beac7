"""Could a cheap first pass say which slices need the late blocks? How many it may skip, and what that would save.

    host phantom lung_nodule --count 60 --seed 101 --out seen
    host phantom lung_nodule --count 60 --seed 404 --out unseen
    python examples/bench/triage.py seen/table.csv unseen/table.csv

The first pass is the first `--blocks` blocks of the frozen backbone and a linear layer on each patch token, fitted on the first table's
masks to find patches that hold a finding; a slice's score is its largest. On the second table: the AUROC of the slices that hold a
finding, and the share of slices below the score that keeps 99 or 95 % of them, which is the most that could skip. Slices that show no
body are not counted: `background = "drop"` leaves little of them. Needs torch, transformers, nibabel, numpy, scikit-learn.
"""

import argparse
import csv
from pathlib import Path

import nibabel
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from transformers import AutoModel

from scans import slices_of

# A slice shows the body where this share of its pixels is not air.
BODY = 0.05


def mask_of(path, count, size, patch):
    """[S, h, w]: the share of each patch that the mask covers, on the slices that `slices_of` cuts."""
    volume = torch.from_numpy((nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32) > 0.5).astype(np.float32))
    z = torch.linspace(0, volume.shape[2] - 1, count).round().long()
    planes = volume[:, :, z].permute(2, 1, 0).flip(1)[:, None]
    return torch.nn.functional.interpolate(planes, (size // patch, size // patch), mode="area")[:, 0].numpy()


def read(table, model, args):
    """Of all slices that show the body: patch tokens [S, P, d], and the covered share of each patch [S, P]."""
    tokens, covers, patch = [], [], model.config.patch_size
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        pixels = slices_of(Path(table).parent / row["image"], args.slices, args.size, args.window)
        body = (pixels[:, 0] > pixels[:, 0].min() + 0.2).float().mean((1, 2)) > BODY
        cover = np.zeros((args.slices, (args.size // patch) ** 2), np.float32)
        if row.get("mask"):
            cover = mask_of(Path(table).parent / row["mask"], args.slices, args.size, patch).reshape(args.slices, -1)
        with torch.inference_mode():
            hidden = [model(part, output_hidden_states=True).hidden_states[args.blocks] for part in pixels[body].split(8)]
        tokens.append(torch.cat(hidden)[:, 1:].half().numpy())
        covers.append(cover[body.numpy()])
    return np.concatenate(tokens), np.concatenate(covers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seen")
    parser.add_argument("unseen")
    parser.add_argument("--backbone", default="backbones/dinov2-small")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--size", type=int, default=168)
    parser.add_argument("--window", type=float, nargs=2, default=[-1000, 400])
    parser.add_argument("--negatives", type=int, default=4, help="patches without a finding of each slice that are fitted on")
    args = parser.parse_args()
    model = AutoModel.from_pretrained(args.backbone, dtype=torch.float32).eval()
    total = model.config.num_hidden_layers
    # Later blocks are not computed.
    model.encoder.layer = model.encoder.layer[: args.blocks]
    tokens, cover = read(args.seen, model, args)
    draw = np.random.default_rng(1)
    positive = np.argwhere(cover > 0.25)
    negative = np.array([(s, p) for s in range(len(cover)) for p in draw.choice(np.flatnonzero(cover[s] == 0), args.negatives)])
    chosen = np.concatenate([positive, negative])
    x = tokens[chosen[:, 0], chosen[:, 1]].astype(np.float32)
    y = np.arange(len(chosen)) < len(positive)
    mean, spread = x.mean(0), x.std(0) + 1e-6
    fitted = LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced").fit((x - mean) / spread, y)
    tokens, cover = read(args.unseen, model, args)
    scores = np.array([fitted.decision_function((slice_.astype(np.float32) - mean) / spread).max() for slice_ in tokens])
    holds = cover.max(1) > 0
    print(f"{len(positive)} patches with a finding were fitted; {len(scores)} unseen slices with body, {holds.sum()} with a finding")
    print(f"AUROC of a slice after {args.blocks} of {total} blocks: {roc_auc_score(holds, scores):.3f}")
    for kept in (0.99, 0.95):
        skipped = (scores < np.quantile(scores[holds], 1 - kept)).mean()
        print(f"{kept:.0%} of the slices with a finding kept: {skipped:.0%} of all may skip, {skipped * (1 - args.blocks / total):.0%} of the blocks' work")


if __name__ == "__main__":
    main()
