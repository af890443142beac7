"""What a GPU makes of this host: the same numbers as PyTorch? how fast? how much memory? does it survive a full device?

    python3 host/cuda/check.py --host target/cuda/host [--backbone backbones/dinov2-small]

Everything in one run, under ten minutes on one GPU; PyTorch and ours take turns. With the stand-in for a GPU (host/cuda/README.md) all
but the speed is checked; without either the numbers are compared on the processor, and the rest is skipped. Needs torch, numpy and
safetensors; transformers is not needed.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}


class Dinov2(torch.nn.Module):
    """DINOv2 with its weights under the names of Hugging Face's files, and scaled_dot_product_attention."""

    def __init__(self, tensors, heads, blocks):
        super().__init__()
        self.heads, self.blocks = heads, blocks
        self.w = torch.nn.ParameterDict({k.replace(".", "/"): torch.nn.Parameter(torch.from_numpy(v).float(), requires_grad=False)
                                         for k, v in tensors.items()})
        self.low = torch.nn.ParameterDict()

    def adapt(self, rank=8):
        d = self["embeddings.cls_token"].shape[-1]
        for i in range(self.blocks):
            for site, wide in (("qkv", 3 * d), ("out", d)):
                self.low[f"{i}/{site}/a"] = torch.nn.Parameter(torch.randn(rank, d, device=self.device) * 0.02)
                self.low[f"{i}/{site}/b"] = torch.nn.Parameter(torch.randn(wide, rank, device=self.device) * 0.02)
        return self

    @property
    def device(self):
        return self["embeddings.cls_token"].device

    def __getitem__(self, name):
        return self.w[name.replace(".", "/")]

    def linear(self, x, name):
        return F.linear(x, self[name + ".weight"], self[name + ".bias"])

    def term(self, x, site):
        if site + "/a" not in self.low:
            return 0
        return (x @ self.low[site + "/a"].to(x.dtype).T) @ self.low[site + "/b"].to(x.dtype).T * 2

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self[name + ".weight"], self[name + ".bias"], 1e-6)

    def forward(self, pixels):
        p = self["embeddings.patch_embeddings.projection.weight"]
        x = F.conv2d(pixels, p, self["embeddings.patch_embeddings.projection.bias"], stride=p.shape[-1]).flatten(2).transpose(1, 2)
        x = torch.cat([self["embeddings.cls_token"].expand(len(x), -1, -1), x], 1) + self.positions
        for i in range(self.blocks):
            layer = f"encoder.layer.{i}."
            a = layer + "attention."
            y = self.norm(x, layer + "norm1")
            qkv = torch.cat([self.linear(y, f"{a}attention.{n}") for n in ("query", "key", "value")], -1) + self.term(y, f"{i}/qkv")
            q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = x + (self.linear(mixed, a + "output.dense") + self.term(mixed, f"{i}/out")) * self[layer + "layer_scale1.lambda1"]
            y = F.gelu(self.linear(self.norm(x, layer + "norm2"), layer + "mlp.fc1"))
            x = x + self.linear(y, layer + "mlp.fc2") * self[layer + "layer_scale2.lambda1"]
        return self.norm(x, "layernorm")

    def at(self, size):
        """Positions for images of this size: interpolated as the file's family does it."""
        table = self["embeddings.position_embeddings"].float()
        side, grid = int((table.shape[1] - 1) ** 0.5), size // self["embeddings.patch_embeddings.projection.weight"].shape[-1]
        patches = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
        self.positions = torch.cat([table[:, :1], patches.flatten(2).transpose(1, 2)], 1).to(self["embeddings.cls_token"])
        return self


def random_backbone(folder, size, d, blocks, heads):
    """A folder as Hugging Face's, of this shape, with random weights."""
    rng = np.random.default_rng(0)
    noise = lambda *shape: (rng.standard_normal(shape) * 0.02).astype(np.float32)
    one, zero = lambda n: np.ones(n, np.float32), lambda n: np.zeros(n, np.float32)
    t = {"embeddings.cls_token": noise(1, 1, d), "embeddings.mask_token": noise(1, d), "embeddings.position_embeddings": noise(1, 257, d),
         "embeddings.patch_embeddings.projection.weight": noise(d, 3, 14, 14), "embeddings.patch_embeddings.projection.bias": zero(d),
         "layernorm.weight": one(d), "layernorm.bias": zero(d)}
    for i in range(blocks):
        layer = f"encoder.layer.{i}."
        for name, (out, into) in {"attention.attention.query": (d, d), "attention.attention.key": (d, d), "attention.attention.value": (d, d),
                                  "attention.output.dense": (d, d), "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d)}.items():
            t[f"{layer}{name}.weight"], t[f"{layer}{name}.bias"] = noise(out, into), zero(out)
        for name in ("norm1", "norm2"):
            t[f"{layer}{name}.weight"], t[f"{layer}{name}.bias"] = one(d), zero(d)
        for name in ("layer_scale1", "layer_scale2"):
            t[f"{layer}{name}.lambda1"] = one(d)
    place = Path(folder) / f"vit-{size.lower()}-random"
    place.mkdir()
    save_file(t, str(place / "model.safetensors"))
    (place / "config.json").write_text(json.dumps({"model_type": "dinov2", "hidden_size": d, "num_hidden_layers": blocks, "num_attention_heads": heads,
        "patch_size": 14, "image_size": 224, "mlp_ratio": 4, "qkv_bias": True, "use_swiglu_ffn": False, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}))
    (place / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}))
    return place


class Host:
    """`host bench --stepwise`: a repetition per line."""

    def __init__(self, args, backbone, pixels, precision, environment={}):
        command = [args.host, "bench", "--stepwise", "--pixels", pixels, "--backbone", str(backbone), "--precision", precision,
                   "--device", args.device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def numbers(args, folder):
    """Class tokens beside PyTorch's f32: ours in f32 and bf16, PyTorch's bf16."""
    print("== numbers: lowest cosine of a class token to PyTorch's f32, largest difference")
    size, slices = 224, 16 if args.torch else 4
    pixels = np.random.default_rng(1).standard_normal((slices, 3, size, size)).astype(np.float32)
    file = str(Path(folder) / "numbers.safetensors")
    save_file({"pixels": pixels}, file)
    model = Dinov2(load_file(str(Path(args.backbone) / "model.safetensors")), 6, 12).at(size)
    with torch.inference_mode():
        truth = model(torch.from_numpy(pixels))[:, 0].numpy()
        half = model.bfloat16().at(size)(torch.from_numpy(pixels).bfloat16())[:, 0].float().numpy()
    cosine = lambda a: ((a * truth).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(truth, axis=1)).min()
    ok = True
    for precision, least in (("f32", 0.999999), ("bf16", 0.9995)):
        out = str(Path(folder) / "class.safetensors")
        subprocess.run([args.host, "-q", "embed", file, "--out", out, "--backbone", args.backbone, "--precision", precision, "--device", args.device],
                       check=True, stdout=subprocess.DEVNULL)
        found = load_file(out)["class"]
        ok &= bool(cosine(found) >= least)
        print(f"  host {precision:5} on {args.device}: {cosine(found):.6f} (at least {least}), {np.abs(found - truth).max():.2e}")
    print(f"  PyTorch bf16: {cosine(half):.6f}")
    return ok


def timed(work):
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def speed(args, folder):
    print(f"== speed: bf16, 224 px, {args.slices} slices; ms of a pass, median [fastest]; times as fast as PyTorch")
    for size, (d, blocks, heads) in SIZES.items():
        backbone = Path(args.backbone) if size == "S" else random_backbone(folder, size, d, blocks, heads)
        pixels = np.random.default_rng(2).standard_normal((args.slices, 3, 224, 224)).astype(np.float32)
        file = str(Path(folder) / f"speed-{size}.safetensors")
        save_file({"pixels": pixels}, file)
        model = Dinov2(load_file(str(backbone / "model.safetensors")), heads, blocks).cuda().bfloat16().at(224).eval()
        x = torch.from_numpy(pixels).cuda().bfloat16()
        compiled = torch.compile(model)
        ours = Host(args, backbone, file, "bf16")

        def forward(module):
            with torch.inference_mode():
                module(x)

        trained = Dinov2(load_file(str(backbone / "model.safetensors")), heads, blocks).cuda().bfloat16().at(224).adapt()
        optimiser = torch.optim.AdamW(trained.low.parameters(), lr=1e-4)
        compiled_training = torch.compile(trained)

        def step(module):
            optimiser.zero_grad()
            module(x)[:, 0].float().square().mean().backward()
            optimiser.step()

        engines = {"host": lambda: ours.ask("frozen")["ms"], "PyTorch eager": lambda: timed(lambda: forward(model)),
                   "torch.compile": lambda: timed(lambda: forward(compiled)), "step, host": lambda: ours.ask("step")["ms"],
                   "step, PyTorch eager": lambda: timed(lambda: step(trained)), "step, torch.compile": lambda: timed(lambda: step(compiled_training))}
        times = {name: [] for name in engines}
        for repetition in range(2 + args.repetitions):
            for name, work in engines.items():
                spent = work()
                if repetition > 1:
                    times[name].append(spent)
        for name, t in times.items():
            against = np.array(times["step, host" if name.startswith("step") else "host"])
            print(f"  ViT-{size} {name:22} {np.median(t):9.2f} [{min(t):.2f}]  {args.slices * 1e3 / np.median(t):8.0f} slices/s   "
                  f"{np.median(np.array(t) / against):.2f}")
        ours.close()
        del model, trained, compiled, compiled_training, x
        torch.cuda.empty_cache()


def memory(args, folder):
    """What a task adds to a device that has answered with it."""
    print("== memory: free of the device with n tasks of rank 8 on one backbone")
    file = str(Path(folder) / "memory.safetensors")
    save_file({"pixels": np.random.default_rng(3).standard_normal((2, 3, 224, 224)).astype(np.float32)}, file)
    ours = Host(args, args.backbone, file, "bf16")
    left = {n: ours.ask(f"many {n} 8")["device_left"] for n in (1, 2, 4, 8)}
    ours.close()
    print("  " + ", ".join(f"{n}: {bytes / 2**20:.1f} MiB" for n, bytes in left.items()))
    each, parameters = (left[1] - left[8]) / 7 / 2**20, 4 * 8 * 2304 * 4 / 2**20
    print(f"  {each:.2f} MiB per added task; its parameters in the last four blocks are {parameters:.2f} MiB")
    return parameters / 2 < each < parameters * 4


class Taken:
    """Others hold all of the device but a little: PyTorch does, or the stand-in is told so."""

    def __init__(self, args, file, left):
        self.args, self.file, self.left = args, file, left

    def __enter__(self):
        if self.args.torch:
            self.held = torch.empty(max(torch.cuda.mem_get_info()[0] - self.left, 1), dtype=torch.uint8, device="cuda")
        else:
            self.file.write_text(str((8 << 30) - self.left))

    def __exit__(self, *_):
        if self.args.torch:
            del self.held
            torch.cuda.empty_cache()
        else:
            self.file.write_text("0")


def full(args, folder):
    """Beside a full device a pass is refused with its numbers, and the same process goes on when there is room again."""
    print("== a full device")
    file, taken = str(Path(folder) / "full.safetensors"), Path(folder) / "taken"
    taken.write_text("0")
    save_file({"pixels": np.random.default_rng(4).standard_normal((2, 3, 224, 224)).astype(np.float32)}, file)
    ours = Host(args, args.backbone, file, "bf16", environment={"STANDIN_TAKEN": str(taken), "STANDIN_MEMORY": str(8 << 30)})
    before = ours.ask("frozen")
    with Taken(args, taken, 64 << 20):
        within = ours.ask("frozen")
        other = subprocess.run([args.host, "embed", file, "--out", str(Path(folder) / "never.safetensors"), "--backbone", args.backbone,
                                "--device", args.device], capture_output=True, text=True,
                               env={**os.environ, "STANDIN_TAKEN": str(taken), "STANDIN_MEMORY": str(8 << 30)})
    after = ours.ask("frozen")
    ours.close()
    print("  beside it:", within.get("error", within))
    print("  another process:", other.stderr.strip() or other.stdout.strip())
    print("  afterwards:", after)
    return "ms" in before and "error" in within and "ms" in after and other.returncode != 0 and len(other.stderr.splitlines()) == 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/cuda/host")
    parser.add_argument("--backbone", default="backbones/dinov2-small")
    parser.add_argument("-n", "--repetitions", type=int, default=15)
    parser.add_argument("--slices", type=int, default=32)
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    doctor = subprocess.run([args.host, "doctor"], capture_output=True, text=True).stdout
    print(doctor)
    args.gpu, args.torch = "cuda:0" in doctor, torch.cuda.is_available()
    args.device = "cuda:0" if args.gpu else "cpu"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        held = {"numbers": numbers(args, folder)}
        if args.gpu and args.torch:
            speed(args, folder)
        else:
            print("== speed: skipped, PyTorch finds no GPU")
        if args.gpu:
            held |= {"memory": memory(args, folder), "a full device": full(args, folder)}
        else:
            print("== memory and a full device: skipped, the host finds no GPU")
    print(f"{time.perf_counter() - start:.0f} s; " + ", ".join(f"{name}: {'holds' if ok else 'DOES NOT HOLD'}" for name, ok in held.items()))
    raise SystemExit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
