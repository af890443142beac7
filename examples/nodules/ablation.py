"""What each ingredient of the nodule tasks is worth, alone and together, on features of the frozen backbone that are computed once.

    python3 examples/nodules/ablation.py TABLE.csv WORK [--host target/release/host]

TABLE.csv as plugins/nodules.sh takes it, with `malignancy`, `texture` (1 to 5) and `subtlety`. Two tasks, three draws of five folds by
patient; a linear layer with a penalty, fitted at once. The base is the mean patch token inside the mask after six blocks. WORK/PLUGIN/INGREDIENT-SEED is a
run as `host train` leaves it; a run that is there is not made again. The table has the mean AUROC of the folds and draws against the hard
labels, and its difference to the base and to what is together, each with a 95 % interval over draws of patients. Needs numpy.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmark"))
from mean_difference import area

SEEDS = [1, 2, 3]
DRAWS = 1000
# The label, the column whose rating softens it, and the share that each rating from 1 to 5 stands for.
TASKS = {
    "nodule_malignancy": ("malignant", "malignancy", [0.0, 0.25, 0.5, 0.75, 1.0]),
    "nodule_texture": ("not_solid", "texture", [1.0, 1.0, 0.75, 0.5, 0.0]),
}
SIX, ADJACENT = ["--depth", "6"], ["--adjacent-mm", "2.5"]


def reads(*features):
    return ["--mask-features", ",".join(features)]


# Ingredient: the table's kind, options of `host train`. `cover` averages the patch tokens inside the mask.
INGREDIENTS = {
    "tokens inside the mask, block 6": ("hard", SIX + reads("cover")),
    "block 12 instead": ("hard", reads("cover")),
    "adjacent slices as channels": ("hard", SIX + reads("cover") + ADJACENT),
    "soft labels": ("soft", SIX + reads("cover")),
    "weights by how subtle a nodule is": ("weighted", SIX + reads("cover")),
    "six scalars of the mask too": ("hard", SIX + reads("scalars", "cover")),
    "28 further numbers of the mask too": ("hard", SIX + reads("details", "cover")),
    "both kinds of numbers too": ("hard", SIX + reads("scalars", "details", "cover")),
    "all of these": ("weighted soft", SIX + reads("scalars", "details", "cover") + ADJACENT),
    "six scalars of the mask alone": ("hard", SIX + reads("scalars")),
}
BASE, TOGETHER = "tokens inside the mask, block 6", "both kinds of numbers too"


def table_of(kind, rows, plugin, work):
    """The task's table with hard or soft labels, and with weights of its cells."""
    label, rating, shares = TASKS[plugin]
    place = work / f"{plugin}-{kind.replace(' ', '-')}.csv"
    with open(place, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "image", "mask", label] + ([f"weight.{label}"] if "weighted" in kind else []))
        for row in rows:
            # A rating between yes and no has no hard label, and no soft one either: all ingredients learn from the same cases.
            told = row[label] if "soft" not in kind or not row[label] else shares[int(row[rating]) - 1]
            weight = [int(row["subtlety"]) / 5] if "weighted" in kind else []
            writer.writerow([row["case"], row["patient"], row["image"], row["mask"], told] + weight)
    return place


def run(args, plugin, name, seed, table):
    out = args.work / plugin / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
    if not (out / "predictions.csv").exists():
        command = [args.host, "-q", "train", "--plugin", plugin, "--data", str(table), "--out", str(out), "--folds", "5", "--seed", str(seed),
                   "--adapter", "none", "--lambda", "0", "--augment", "none", "--cache", str(args.work / "cache"), "--fusion", "none",
                   "--logistic", "10", "--threads", str(args.threads), "--precision", args.precision, *INGREDIENTS[name][1]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stdout}")
    with open(out / "predictions.csv", newline="") as file:
        return {row["case"]: (row["fold"], float(row[f"p_{TASKS[plugin][0]}"])) for row in csv.DictReader(file)}


def mean_area(truth, runs, cases):
    """Over draws and folds, of the cases with these numbers."""
    return np.nanmean([area(truth[cases][fold[cases] == f], score[cases][fold[cases] == f]) for fold, score in runs for f in np.unique(fold)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    with open(args.table, newline="") as file:
        rows = list(csv.DictReader(file))
    here = args.table.resolve().parent
    for row in rows:
        row["image"], row["mask"] = str(here / row["image"]), str(here / row["mask"])
    for plugin, (label, _, _) in TASKS.items():
        known = [row for row in rows if row[label]]
        truth = np.array([row[label] == "1" for row in known])
        patients = {p: np.flatnonzero([row["patient"] == p for row in known]) for p in {row["patient"] for row in known}}
        found = {}
        for name, (kind, _) in INGREDIENTS.items():
            table, found[name] = table_of(kind, rows, plugin, args.work), []
            for seed in SEEDS:
                said = run(args, plugin, name, seed, table)
                found[name].append((np.array([said[row["case"]][0] for row in known]), np.array([said[row["case"]][1] for row in known])))
        draw, members = np.random.default_rng(1), list(patients.values())
        drawn = {name: [] for name in found}
        for _ in range(DRAWS):
            cases = np.concatenate([members[i] for i in draw.integers(len(members), size=len(members))])
            for name, runs in found.items():
                drawn[name].append(mean_area(truth, runs, cases))
        print(f"\n`{plugin}`: {len(known)} nodules of {len(patients)} patients, {truth.sum()} {label}\n")
        print("| features | AUROC | to the base | to what is together |\n|---|---|---|---|")
        everyone = np.arange(len(known))
        for name, runs in found.items():
            cells = [f"{mean_area(truth, runs, everyone):.3f}"]
            for other in (BASE, TOGETHER):
                difference = mean_area(truth, runs, everyone) - mean_area(truth, found[other], everyone)
                low, high = np.percentile(np.array(drawn[name]) - np.array(drawn[other]), [2.5, 97.5])
                cells.append("" if name == other else f"{difference:+.3f} ({low:+.3f} to {high:+.3f})")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
