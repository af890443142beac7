"""An epoch of training on whole scans by `host train` and by PyTorch with peft, in turn.

    python examples/bench/training.py --host target/release/host scan.nii.gz [more scans]

Low-rank terms of rank 8 in all blocks, one case a step, the same weights of the backbone. The host reads each scan in each epoch, cuts it as
the plugin's view says, trains head and adapter, and steps. PyTorch has the slices in memory already, cut from the whole field of view;
its loss is a sum over slices, so that it needs no head and takes them in parts. So the comparison leans to PyTorch's side.

The host's ways: each number format, class tokens alone in the last block, the background dropped. Prints milliseconds per slice (median
[quarters] of the repetitions), and how many times as fast each way is as PyTorch's best. Needs torch, transformers, peft, nibabel,
numpy, safetensors.
"""

import argparse
import csv
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from compare import peft_model, steps
from scans import slices_of

EPOCHS = 3


class Host:
    """`host train` of a table; an epoch is what each takes after the first, which also opens and standardises."""

    def __init__(self, args, table, options):
        self.command = [args.host, "-q", "train", "--plugin", args.plugin, "--data", str(table), "--adapter", "lora", "--first-block", "0",
                        "--lambda", "0", "--augment", "none", "--batch", "1", "--epochs", str(EPOCHS), "--threads", str(args.threads),
                        "--unchecked", "--fusion", "attention", *options]
        self.folder = table.parent

    def __call__(self):
        out = Path(tempfile.mkdtemp(dir=self.folder))
        done = subprocess.run([*self.command, "--out", str(out / "run")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(self.command)}: {done.stdout}")
        seconds = [float(row["seconds"]) for row in csv.DictReader(open(out / "run" / "metrics.csv"))]
        shutil.rmtree(out)
        return (seconds[-1] - seconds[0]) / (EPOCHS - 1) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="+")
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--plugin", default="lung_nodule")
    parser.add_argument("--backbone", default="backbones/dinov2-small")
    parser.add_argument("--precisions", default="bf16,int8")
    parser.add_argument("--no-half", action="store_true", help="leave PyTorch's autocast out: where no instruction multiplies bf16, it is slow")
    parser.add_argument("--slices", type=int, default=40, help="as the plugin's view has")
    parser.add_argument("--size", type=int, default=168, help="as the plugin's view has")
    parser.add_argument("--window", type=float, nargs=2, default=[-1000, 400])
    parser.add_argument("--cases", type=int, default=4, help="cases of an epoch: the scans in turn")
    parser.add_argument("--batch", type=int, default=8, help="slices at once for PyTorch")
    parser.add_argument("-n", "--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Path(tempfile.mkdtemp()) / "table.csv"
    scans = [os.path.abspath(args.scans[i % len(args.scans)]) for i in range(args.cases)]
    rows = [f"case{i},{scan},{i // len(args.scans) % 2},train" for i, scan in enumerate(scans)]
    # What it takes to validate one case is part of an epoch on both sides.
    rows.append(f"case{args.cases},{scans[0]},0,val")
    table.write_text("\n".join(["case,image,nodule,split", *rows, ""]))
    ways = {"": [], ", drop": ["--background", "drop"], ", class, drop": ["--class-tokens-only", "--background", "drop"]}
    engines = {f"host {p}{way}": Host(args, table, ["--precision", p, *options])
               for p in args.precisions.split(",") for way, options in ways.items()}

    pixels = [slices_of(scan, args.slices, args.size, args.window) for scan in scans]
    peft = peft_model(args.backbone)
    optimiser = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=1e-4)

    def epoch(autocast):
        cases = [steps(peft, optimiser, case, autocast, args.batch) for case in pixels]

        def run():
            start = time.perf_counter()
            for case in cases:
                case()
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                for part in pixels[0].split(args.batch):
                    peft(part)
            return (time.perf_counter() - start) * 1e3

        return run

    peers = {"torch f32": epoch(False)} | ({} if args.no_half else {"torch autocast": epoch(True)})
    engines |= peers
    times = {name: [] for name in engines}
    for repetition in range(args.repetitions + 1):
        for name, work in engines.items():
            spent = work()
            if repetition:
                times[name].append(spent / args.cases / args.slices)
    best = min(peers, key=lambda peer: np.median(times[peer]))
    print(f"{args.cases} cases of {args.slices} slices of {args.size} px, {args.repetitions} repetitions in turn, {args.threads} threads, "
          f"load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':28}{'ms/slice [quarters]':>26}{f'times {best}':>26}")
    for name, t in times.items():
        cells = ["{:.1f} [{:.1f} {:.1f}]".format(*np.percentile(t, [50, 25, 75])),
                 "{:.2f} [{:.2f} {:.2f}]".format(*np.percentile(np.array(times[best]) / np.array(t), [50, 25, 75]))]
        print(f"{name:28}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
