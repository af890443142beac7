"""The same weights and pixels through this host, PyTorch (transformers, peft) and ONNX Runtime, in turn, in one run.

    python examples/bench/compare.py --host target/release/host --backbone backbones/dinov2-small
    python examples/bench/compare.py --random siglip-b --no-step --no-onnx      a form of another family, with random weights
    python examples/bench/compare.py --precisions int16 f32 --no-half --no-step   on a processor that does not multiply bf16

Prints slices per second, and the ratio of each repetition of ours to its neighbours in time: median [quarters], by the
wall and by the processors' own time (which does not count what other programs take). Then how near the class tokens of
each format are to PyTorch's in f32. Needs torch, transformers, peft, onnxruntime, onnxscript, safetensors, numpy.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel, DINOv3ViTConfig, DINOv3ViTModel, SiglipVisionConfig, SiglipVisionModel


class Host:
    """`host bench --stepwise`: a repetition per line."""

    def __init__(self, args, precision, pixels):
        command = [args.host, "bench", "--stepwise", "--pixels", pixels, "--backbone", args.backbone, "--precision", precision,
                   "--threads", str(args.threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["ms"], answer["processor_ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(work):
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def onnx_file(model, pixels, folder, output):
    """The model's `output` of pixels, for any number of slices."""

    class Output(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return getattr(self.model(pixels), output)

    path = str(folder / "backbone.onnx")
    with torch.no_grad():
        # The export leaves every part in the mode that the whole was in, and DINOv3 moves its positions at random in training.
        torch.onnx.export(Output().eval(), (pixels[:8],), path, input_names=["pixels"], output_names=["output"], dynamo=False,
                          dynamic_axes={"pixels": {0: "slices"}, "output": {0: "slices"}})
    return path


def onnx_session(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def peft_model(folder):
    from peft import LoraConfig, get_peft_model

    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    names = ["query", "key", "value", "attention.output.dense"]
    if not any(n.endswith(".query") for n, _ in model.named_modules()):
        names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=names))


# Published forms whose weights are not here: speed does not depend on their numbers.
RANDOM = {
    "dinov3-s": lambda: DINOv3ViTModel(DINOv3ViTConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=12, num_attention_heads=6,
                                                       num_register_tokens=4, patch_size=16, image_size=224)),
    "siglip-b": lambda: SiglipVisionModel(SiglipVisionConfig(image_size=224, patch_size=16)),
}


def random_backbone(form, folder):
    torch.manual_seed(1)
    place = folder / form
    RANDOM[form]().half().save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    return str(place)


def steps(model, optimiser, pixels, autocast, batch):
    def one():
        optimiser.zero_grad()
        loss = 0.0
        for part in pixels.split(batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                tokens = model(part).pooler_output
            part_loss = tokens.float().square().sum() / (len(pixels) * tokens.shape[1])
            part_loss.backward()
        optimiser.step()

    return one


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--backbone", default="backbones/dinov2-small")
    parser.add_argument("--random", choices=RANDOM, help="this form with random weights, in the place of --backbone")
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8, help="slices at once for PyTorch and ONNX Runtime")
    parser.add_argument("-n", "--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count(),
                        help="1 on a machine with other work: threads that wait for each other count as busy")
    parser.add_argument("--no-step", action="store_true", help="leave the training step out")
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX Runtime out")
    parser.add_argument("--no-half", action="store_true", help="leave PyTorch's bf16 out: without AVX512-BF16 it takes many times as long")
    parser.add_argument("--precisions", nargs="+", default=["bf16", "f32"], help="this host's number formats")
    parser.add_argument("--json", help="also write the numbers to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = Path(tempfile.mkdtemp())
    if args.random:
        args.backbone = random_backbone(args.random, folder)
    pixels = torch.randn(args.slices, 3, args.size, args.size, generator=torch.Generator().manual_seed(1))
    file = str(folder / "pixels.safetensors")
    save_file({"pixels": pixels.numpy()}, file)

    half = AutoModel.from_pretrained(args.backbone, dtype=torch.bfloat16).eval()
    full = AutoModel.from_pretrained(args.backbone, dtype=torch.float32).eval()
    session = None if args.no_onnx else onnx_session(onnx_file(full, pixels, folder, "last_hidden_state"), args.threads)
    parts = pixels.split(args.batch)
    in_half = [p.to(torch.bfloat16) for p in parts]
    arrays = [p.numpy() for p in parts]

    def torch_forward(model, parts):
        with torch.inference_mode():
            for part in parts:
                model(part)

    ours = {precision: Host(args, precision, file) for precision in args.precisions}
    engines, pairs = {}, []
    for precision, host in ours.items():
        engines[f"host {precision}"] = lambda host=host: host.run("frozen")
    peers = {"torch f32": lambda: timed(lambda: torch_forward(full, parts))}
    if not args.no_half:
        peers["torch bf16"] = lambda: timed(lambda: torch_forward(half, in_half))
    if session:
        peers["onnxruntime f32"] = lambda: timed(lambda: [session.run(None, {"pixels": a}) for a in arrays])
    for peer, work in peers.items():
        engines[peer] = work
        # f32 beside what computes in less would be another comparison.
        pairs += [(f"host {p}", peer) for p in ours if p != "f32" or peer.endswith("f32")]
    if not args.no_step:
        peft = peft_model(args.backbone)
        optimiser = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=1e-4)
        for name, autocast in [("f32", False)] if args.no_half else [("autocast", True), ("f32", False)]:
            work = steps(peft, optimiser, pixels, autocast, args.batch)
            engines[f"step, torch {name}"] = lambda work=work: timed(work)
            for precision in ours:
                engines[f"step, host {precision}"] = lambda host=ours[precision]: host.run("step")
                if (precision == "f32") == (name == "f32") or args.no_half:
                    pairs.append((f"step, host {precision}", f"step, torch {name}"))

    times = {name: [] for name in engines}
    for repetition in range(args.repetitions + 1):
        for name, work in engines.items():
            spent = work()
            if repetition:
                times[name].append(spent)
    times = {name: np.array(t) for name, t in times.items()}
    print(f"{args.slices} slices of {args.size} px, {args.repetitions} repetitions in turn, {args.threads} threads, "
          f"load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':22}{'ms/slice':>9}{'fastest':>9}{'processor':>11}{'slices/s':>10}")
    for name, t in times.items():
        wall, processor = t[:, 0] / args.slices, t[:, 1] / args.slices
        print(f"{name:22}{np.median(wall):9.2f}{wall.min():9.2f}{np.median(processor):11.2f}{1e3 / np.median(wall):10.1f}")
    print(f"\n{'times as fast':44}{'wall [quarters]':>22}{'processor [quarters]':>26}")
    ratios = {}
    for a, b in pairs:
        cells = []
        for column in (0, 1):
            ratio = times[b][:, column] / times[a][:, column]
            ratios[f"{a} : {b}", ("wall", "processor")[column]] = float(np.median(ratio))
            cells.append("{:.2f} [{:.2f} {:.2f}]".format(*np.percentile(ratio, [50, 25, 75])))
        print(f"{a + ' : ' + b:44}{cells[0]:>22}{cells[1]:>26}")

    for host in ours.values():
        host.close()
    with torch.inference_mode():
        truth = np.concatenate([full(p).pooler_output.numpy() for p in parts])
    print("\nlowest cosine of a class token to PyTorch's f32")
    for precision in ours:
        out = str(folder / "out.safetensors")
        subprocess.run([args.host, "-q", "embed", file, "--out", out, "--backbone", args.backbone, "--precision", precision],
                       check=True, stdout=subprocess.DEVNULL)
        print(f"  host {precision:16} {cosine(load_file(out)['class'], truth).min():.6f}")
    if not args.no_half:
        with torch.inference_mode():
            theirs = np.concatenate([half(p).pooler_output.float().numpy() for p in in_half])
        print(f"  torch bf16            {cosine(theirs, truth).min():.6f}")
    if args.json:
        rows = {name: t.tolist() for name, t in times.items()}
        medians = {f"{pair}, {kind}": r for (pair, kind), r in ratios.items()}
        Path(args.json).write_text(json.dumps({"times_ms": rows, "ratios": medians}, indent=1))


if __name__ == "__main__":
    main()
