"""A 3D network from scratch on the folds of a benchmark: its predictions join the table.

    python3 examples/baselines/train.py BENCHMARK/folds/TASK.csv OUT.csv --model resnet18|densenet121 [options]

For each fold the network is drawn anew, trains on the other folds but the next, whose AUROC chooses the epoch, and scores the fold. A
task with parts (column `split`) has one such run. OUT.csv is a predictions file, and OUT.json beside it says what was measured:
parameters, minutes of training, milliseconds of a case, processor, options and runs. Needs PyTorch, MONAI, numpy and nibabel.
"""

import argparse
import csv
import json
import platform
import statistics
import time

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet121, resnet18

AROUND = {"case", "patient", "fold", "split", "mask", "point"}


def voxels(row, views, options):
    """`[V, D, H, W]`, 0 to 1: each view's scan in RAS order, cut around the mask where that is asked for, at one size."""
    channels = []
    for view in views:
        path = row[f"image.{view}"]
        if not path:
            channels.append(torch.zeros(options.size))
            continue
        image = nibabel.as_closest_canonical(nibabel.load(path))
        array, spacing = np.asarray(image.dataobj, np.float32), nibabel.affines.voxel_sizes(image.affine)
        if options.around_mask and row["mask"]:
            inside = np.argwhere(np.asarray(nibabel.as_closest_canonical(nibabel.load(row["mask"])).dataobj) > 0.5)
            middle, half = inside.mean(0), options.around_mask / 2 / spacing
            low, high = np.floor(middle - half).astype(int), np.ceil(middle + half).astype(int) + 1
            pads = [(max(0, -a), max(0, b - n)) for a, b, n in zip(low, high, array.shape)]
            array = np.pad(array, pads, constant_values=array.min())
            low, high = low + [p[0] for p in pads], high + [p[0] for p in pads]
            array = array[tuple(slice(a, b) for a, b in zip(low, high))]
        least, most = options.window or np.percentile(array, [0.5, 99.5])
        array = np.clip((array - float(least)) / max(float(most - least), 1e-6), 0, 1).astype(np.float32)
        volume = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 1, 0)))[None, None]
        channels.append(F.interpolate(volume, size=options.size, mode="trilinear", align_corners=False)[0, 0])
    return torch.stack(channels)


def network(name, channels, outputs):
    if name == "resnet18":
        return resnet18(spatial_dims=3, n_input_channels=channels, num_classes=outputs)
    return DenseNet121(spatial_dims=3, in_channels=channels, out_channels=outputs)


def auroc(truth, score):
    positive, negative = score[truth > 0.5], score[truth <= 0.5]
    if not len(positive) or not len(negative):
        return None
    return float(((positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])).mean())


class Task:
    """What the folds file asks: yes or no per label, or one class of several."""

    def __init__(self, rows, columns):
        self.labels = [c for c in columns if c not in AROUND and not c.startswith("image.")]
        self.classes = sorted({r["class"] for r in rows if r["class"]}) if self.labels == ["class"] else []
        if not self.classes and any(r[l] not in ("", "0", "1") for r in rows for l in self.labels):
            raise SystemExit("labels with values: these networks answer yes-or-no questions and classes alone")
        self.outputs = len(self.classes) or len(self.labels)

    def targets(self, rows):
        """`[N, C]` and whether each is known."""
        if self.classes:
            t = [[float(r["class"] == c) if r["class"] else np.nan for c in self.classes] for r in rows]
        else:
            t = [[float(r[l]) if r[l] else np.nan for l in self.labels] for r in rows]
        t = torch.tensor(t)
        return t.nan_to_num(), ~t.isnan()

    def loss(self, logits, truth, known):
        if self.classes:
            each = -(truth * logits.log_softmax(1)).sum(1) * known[:, 0]
            return each.sum() / known[:, 0].sum().clamp(min=1)
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * known
        return each.sum() / known.sum().clamp(min=1)

    def probabilities(self, logits):
        return logits.softmax(1) if self.classes else logits.sigmoid()


def scored(model, x, batch):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part) for part in x.split(batch)])


def trained(task, x, truth, known, train, val, options, seed):
    """The network of the epoch with the best mean AUROC of the validation cases (of equals the first)."""
    torch.manual_seed(seed)
    model = network(options.model, x.shape[1], task.outputs)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    steps = options.epochs * -(-len(train) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.lr, total_steps=max(steps, 2))
    draw, best = np.random.default_rng(seed), (-1.0, None, 0)
    for epoch in range(1, options.epochs + 1):
        model.train()
        order = draw.permutation(train)
        for start in range(0, len(order), options.batch):
            part = order[start:start + options.batch]
            # Batch norm needs two cases.
            part = np.append(part, order[:1]) if len(part) == 1 else part
            images = x[part]
            if options.flips:
                images = torch.stack([c.flip([1 + a for a in range(3) if draw.random() < 0.5]) for c in images])
            optimiser.zero_grad()
            task.loss(model(images), truth[part], known[part]).backward()
            optimiser.step()
            schedule.step()
        said = task.probabilities(scored(model, x[val], options.batch))
        areas = [auroc(truth[val][known[val][:, c], c].numpy(), said[known[val][:, c], c].numpy()) for c in range(task.outputs)]
        areas = [a for a in areas if a is not None]
        area = float(np.mean(areas)) if areas else 0.0
        print(f"seed {seed}, epoch {epoch}: validation AUROC {area:.4f}", flush=True)
        if area > best[0]:
            best = (area, {k: v.clone() for k, v in model.state_dict().items()}, epoch)
    model.load_state_dict(best[1])
    return model, best[2]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folds")
    options.add_argument("out")
    options.add_argument("--model", choices=["resnet18", "densenet121"], required=True)
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--weight-decay", type=float, default=1e-4)
    options.add_argument("--size", type=lambda t: tuple(map(int, t.split(","))), default=(32, 64, 64), help="D,H,W")
    options.add_argument("--window", type=lambda t: tuple(map(float, t.split(","))), help="LOW,HIGH [default: percentiles 0.5 and 99.5]")
    options.add_argument("--around-mask", type=float, default=0.0, help="mm of a cube around the mask; 0 takes the whole scan")
    options.add_argument("--flips", action="store_true", help="mirror axes; not where a label names a side")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=1)
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    with open(options.folds, newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames
    task, views = Task(rows, columns), [c.removeprefix("image.") for c in columns if c.startswith("image.")]
    x = torch.stack([voxels(row, views, options) for row in rows])
    truth, known = task.targets(rows)
    folds = sorted({r["fold"] for r in rows if r["fold"]}, key=int)
    of = lambda key, value: np.array([i for i, r in enumerate(rows) if r[key] == value], int)
    trials = [(fold, of("fold", fold), of("fold", folds[(n + 1) % len(folds)])) for n, fold in enumerate(folds)]
    trials = trials or [("", of("split", "test"), of("split", "val"))]
    said, minutes, took, epochs = {}, 0.0, [], []
    for n, (fold, test, val) in enumerate(trials):
        rest = of("split", "train") if not fold else np.setdiff1d(np.concatenate([t[1] for t in trials]), np.concatenate([test, val]))
        train = np.array([i for i in rest if known[i].any()], int)
        begin = time.perf_counter()
        model, epoch = trained(task, x, truth, known, train, val, options, options.seed + n)
        minutes += (time.perf_counter() - begin) / 60
        epochs.append(epoch)
        for i in test:
            begin = time.perf_counter()
            logits = scored(model, voxels(rows[i], views, options)[None], 1)
            took.append(1e3 * (time.perf_counter() - begin))
            said[i] = task.probabilities(logits)[0].double().numpy()
    header = [f"p_class.{c}" for c in task.classes] or [f"p_{l}" for l in task.labels]
    with open(options.out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "fold", *task.labels, *header] if folds else ["case", "patient", *task.labels, *header])
        for i in sorted(said):
            r = rows[i]
            p = said[i] / said[i].sum() if task.classes else said[i]
            about = [r["case"], r["patient"] or r["case"], *([r["fold"]] if folds else [])]
            writer.writerow([*about, *(r[l] for l in task.labels), *(f"{v:.9f}" for v in p)])
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with open(options.out.removesuffix(".csv") + ".json", "w") as file:
        json.dump({"parameters": parameters, "training_minutes": minutes, "milliseconds": statistics.median(took), "timed_cases": len(took),
                   "runs": len(trials), "best_epochs": epochs, "processor": platform.processor() or platform.machine(),
                   "threads": options.threads, "torch": torch.__version__, "options": vars(options)}, file, indent=1)


if __name__ == "__main__":
    main()
