"""Whole scans through `host run` and through PyTorch, ONNX Runtime and OpenVINO, in turn, reading included.

    python examples/bench/scans.py --host target/release/host --plugin lung_nodule scan.nii.gz [more scans]
    python examples/bench/scans.py --plugin lung_nodule --drop-weights dropped.safetensors scan.nii.gz

Each scan is run several times under other names. The host's time of a scan is what more of them take in one call, so that starting
counts for nobody: the peers have their model open already. A peer reads with nibabel, cuts as many slices of the same size with
`torch.nn.functional.interpolate`, and runs the plain backbone; the host also runs the task's adapter and head. `--drop-weights` are
weights of the same plugin that were trained with `--background drop`. The peers' bf16 is left out with `--no-half`.

Prints milliseconds per scan by the wall: median [quarters], how many times as fast the host is as each peer, repetition by
repetition, and the lowest cosine of a class token to PyTorch's f32. A peer below 0.999 is not what the others are measured by.
Needs torch, transformers, nibabel, safetensors, numpy; onnx, onnxruntime, openvino and nncf where they are to be compared.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
import nibabel
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel

from compare import cosine, onnx_file, onnx_session

FEW, MORE = 2, 10


def slices_of(path, count, size, window):
    """[S, 3, H, W] of a scan as a peer would cut it: the whole field of view, a window, ImageNet's mean and deviation."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    volume = torch.from_numpy(image.get_fdata(dtype=np.float32))  # x, y, z
    z = torch.linspace(0, volume.shape[2] - 1, count).round().long()
    planes = volume[:, :, z].permute(2, 1, 0).flip(1)[:, None]
    planes = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    grey = ((planes - window[0]) / (window[1] - window[0])).clamp(0, 1).expand(-1, 3, -1, -1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((grey - mean[:, None, None]) / std[:, None, None]).contiguous()


class Host:
    """`host run` of a folder with few and with more copies of the scans."""

    def __init__(self, args, folders, precision, weights=None, merge=None):
        self.command = [args.host, "-q", "run", "--plugin", args.plugin, "--precision", precision, "--threads", str(args.threads),
                        "--json"]
        self.command += ["--weights", weights] if weights else []
        self.command += ["--merge", str(merge)] if merge else []
        self.folders = folders

    def seconds(self, folder):
        start = time.perf_counter()
        done = subprocess.run(self.command + [str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(self.command)}: {done.stderr}")
        self.answers = [json.loads(line) for line in done.stdout.splitlines()]
        return time.perf_counter() - start

    def __call__(self):
        few, more = (self.seconds(folder) for folder in self.folders)
        return (more - few) / (MORE - FEW) / self.scans * 1e3


def onnx_engines(path, samples, folder, threads):
    from onnxruntime import quantization

    def engine(path):
        session = onnx_session(path, threads)
        return lambda pixels: session.run(None, {"pixels": pixels})[0]

    class Samples(quantization.CalibrationDataReader):
        def __init__(self):
            self.rest = iter([{"pixels": s} for s in samples])

        def get_next(self):
            return next(self.rest, None)

    prepared, dynamic, static = (str(folder / f"{name}.onnx") for name in ("prepared", "dynamic", "static"))
    quantization.shape_inference.quant_pre_process(path, prepared)
    quantization.quantize_dynamic(prepared, dynamic, weight_type=quantization.QuantType.QInt8, per_channel=True)
    quantization.quantize_static(prepared, static, Samples(), per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])
    return {"onnxruntime f32": engine(path), "onnxruntime int8, dynamic": engine(dynamic), "onnxruntime int8, static": engine(static)}


def openvino_engines(path, samples, threads):
    import openvino

    core = openvino.Core()

    def engine(model, precision):
        compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision})
        return lambda pixels: compiled(pixels)[0]

    model = core.read_model(path)
    engines = {"openvino f32": engine(model, "f32"), "openvino bf16": engine(model, "bf16")}
    try:
        import nncf

        quantised = nncf.quantize(core.read_model(path), nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER)
        engines["openvino int8, nncf"] = engine(quantised, "f32")
    except ImportError:
        print("nncf is not installed: no int8 of OpenVINO")
    return engines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="+")
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--plugin", default="lung_nodule")
    parser.add_argument("--drop-weights")
    parser.add_argument("--merge", type=int, help="also with so many tokens merged away by each block")
    parser.add_argument("--backbone", default="backbones/dinov2-small")
    parser.add_argument("--precisions", default="f32,bf16,int16,int8")
    parser.add_argument("--no-half", action="store_true", help="leave the peers' bf16 out: where no instruction multiplies it, it is slow")
    parser.add_argument("--slices", type=int, default=40, help="as the plugin's view has")
    parser.add_argument("--size", type=int, default=168, help="as the plugin's view has")
    parser.add_argument("--window", type=float, nargs=2, default=[-1000, 400])
    parser.add_argument("--batch", type=int, default=8, help="slices at once for the peers")
    parser.add_argument("-n", "--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = Path(tempfile.mkdtemp())
    folders = [folder / str(n) for n in (FEW, MORE)]
    for place, copies in zip(folders, (FEW, MORE)):
        place.mkdir()
        for i, scan in enumerate(args.scans):
            for copy in range(copies):
                shutil.copy(scan, place / f"scan{i}_{copy}.nii.gz")
    Host.scans = len(args.scans)
    precisions = args.precisions.split(",")
    hosts = {f"host {p}": Host(args, folders, p) for p in precisions}
    if args.drop_weights:
        hosts |= {f"host {p}, drop": Host(args, folders, p, args.drop_weights) for p in precisions}
    if args.merge:
        hosts |= {f"host {p}, merge {args.merge}": Host(args, folders, p, None, args.merge) for p in precisions}
    if args.merge and args.drop_weights:
        hosts |= {f"host {p}, drop, merge {args.merge}": Host(args, folders, p, args.drop_weights, args.merge) for p in precisions}

    cut = lambda scan: slices_of(scan, args.slices, args.size, args.window)
    samples = [part.numpy() for scan in args.scans for part in cut(scan).split(args.batch)]
    full = AutoModel.from_pretrained(args.backbone, dtype=torch.float32).eval()
    half = None if args.no_half else AutoModel.from_pretrained(args.backbone, dtype=torch.bfloat16).eval()

    def torch_engine(model, dtype):
        def run(pixels):
            with torch.inference_mode():
                return model(torch.from_numpy(pixels).to(dtype)).pooler_output.float().numpy()

        return run

    peers = {"torch f32": torch_engine(full, torch.float32)}
    if half is not None:
        peers["torch bf16"] = torch_engine(half, torch.bfloat16)
    try:
        path = onnx_file(full, torch.from_numpy(samples[0]), folder, "pooler_output")
        peers |= onnx_engines(path, samples[:4], folder, args.threads)
        peers |= openvino_engines(path, samples[:4], args.threads)
        if args.no_half:
            peers.pop("openvino bf16")
    except ImportError as missing:
        print(f"{missing}: left out")

    def scans_through(engine):
        def run():
            start = time.perf_counter()
            for scan in args.scans:
                for part in cut(scan).split(args.batch):
                    engine(part.numpy())
            return (time.perf_counter() - start) / len(args.scans) * 1e3

        return run

    engines = hosts | {name: scans_through(engine) for name, engine in peers.items()}
    times = {name: [] for name in engines}
    for repetition in range(args.repetitions + 1):
        for name, work in engines.items():
            spent = work()
            if repetition:
                times[name].append(spent)
    tokens = {name: np.concatenate([engine(s) for s in samples]) for name, engine in peers.items()}
    file, out = str(folder / "pixels.safetensors"), str(folder / "out.safetensors")
    save_file({"pixels": np.concatenate(samples)}, file)
    for precision in precisions:
        subprocess.run([args.host, "-q", "embed", file, "--out", out, "--backbone", args.backbone, "--precision", precision],
                       check=True, stdout=subprocess.DEVNULL)
        tokens[f"host {precision}"] = load_file(out)["class"]
    lowest = {name: float(cosine(t, tokens["torch f32"]).min()) for name, t in tokens.items()}

    print(f"{len(args.scans)} scans, {args.slices} slices of {args.size} px, {args.repetitions} repetitions in turn, "
          f"{args.threads} threads, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':28}{'ms/scan [quarters]':>26}{'lowest cosine':>16}{'patches':>9}")
    for name, t in times.items():
        middle, low, high = np.percentile(t, [50, 25, 75])
        kept = [v.get("kept_patches", 1.0) for a in getattr(hosts.get(name), "answers", []) for v in a["views"]]
        share = f"{np.mean(kept):9.2f}" if kept else ""
        near = f"{lowest[name]:16.6f}" if name in lowest else " " * 16
        print(f"{name:28}{f'{middle:.1f} [{low:.1f} {high:.1f}]':>26}{near}{share}")
    print(f"\n{'times as fast [quarters]':28}" + "".join(f"{name:>26}" for name in hosts))
    for peer in peers:
        cells = [np.array(times[peer]) / np.array(times[name]) for name in hosts]
        print(f"{peer:28}" + "".join("{:>26}".format("{:.2f} [{:.2f} {:.2f}]".format(*np.percentile(c, [50, 25, 75]))) for c in cells))
    fair = [peer for peer in peers if lowest[peer] >= 0.999]
    best = min(fair, key=lambda peer: np.median(times[peer]))
    print(f"\nthe best peer of cosine 0.999 or more is {best}")


if __name__ == "__main__":
    main()
