"""The products of a block, ours beside PyTorch's (oneDNN), on the same shapes, in turn, in one run, one thread.

    python examples/bench/gemm.py --host target/release/host

A repetition is `host bench kernels` (a median of five) and then PyTorch's `linear` on each shape, by the thread's own
time on the processor. Both add a bias. Ours reads and writes float32 and rounds inside; PyTorch's bf16 has bf16 on both sides. Needs torch.
"""

import argparse
import json
import subprocess
import time

import numpy as np
import torch
from torch.nn.functional import linear


def theirs(rows, inner, columns, dtype, least=0.05):
    """GFLOP/s of PyTorch's linear layer; as many calls as take `least` seconds."""
    x, weight, bias = (torch.randn(*shape).to(dtype) for shape in [(rows, inner), (columns, inner), (columns,)])
    calls = 1
    with torch.inference_mode():
        linear(x, weight, bias)
        while True:
            start = time.thread_time()
            for _ in range(calls):
                linear(x, weight, bias)
            spent = time.thread_time() - start
            if spent >= least:
                return 2e-9 * rows * inner * columns * calls / spent
            calls *= 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("-n", "--repetitions", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':34}{'GFLOP/s':>9}{'PyTorch':>9}   share of the better [quarters]")
    for precision, dtype in [("bf16", torch.bfloat16), ("f32", torch.float32)]:
        rates = {}
        for _ in range(args.repetitions):
            command = [args.host, "bench", "kernels", "--json", "-n", "5", "--precision", precision]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            for row in map(json.loads, lines):
                name, *shape = row["measure"].rsplit(" ", 5)
                if name in ("qkv", "output", "up", "down"):
                    rows, inner, columns = (int(n) for n in shape if n != "x")
                    gflop = 2e-6 * rows * inner * columns / row["ms"]
                    rates.setdefault(row["measure"], []).append((gflop, theirs(rows, inner, columns, dtype)))
        for name, pairs in rates.items():
            ours, other = np.array(pairs).T
            middle, low, high = np.percentile(ours / np.maximum(ours, other), [50, 25, 75])
            print(f"{precision + ' ' + name:34}{np.median(ours):9.0f}{np.median(other):9.0f}   {middle:.2f} [{low:.2f} {high:.2f}]")


if __name__ == "__main__":
    main()
