"""How long a large backbone takes to open, and what memory at its most, for every type of number, in one file and in shards.

    python examples/bench/opening.py --host target/release/host

Makes DINOv2 ViT-L/14 with random weights (0.6 GB in 16 bits, 1.2 GB in 32) in a scratch folder, and opens it with
`host backbone inspect`. Prints the fastest of some repetitions, and the peak of the process's resident memory as a multiple of
the file. Needs numpy and safetensors.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, BLOCKS, PATCH, SIDE = 1024, 24, 14, 37


def shapes():
    d = WIDTH
    yield "embeddings.cls_token", (1, 1, d)
    yield "embeddings.position_embeddings", (1, SIDE * SIDE + 1, d)
    yield "embeddings.patch_embeddings.projection.weight", (d, 3, PATCH, PATCH)
    yield "embeddings.patch_embeddings.projection.bias", (d,)
    for i in range(BLOCKS):
        layers = [("attention.attention." + part, d, d) for part in ("query", "key", "value")]
        layers += [("attention.output.dense", d, d), ("mlp.fc1", 4 * d, d), ("mlp.fc2", d, 4 * d)]
        for name, rows, columns in layers:
            yield f"encoder.layer.{i}.{name}.weight", (rows, columns)
            yield f"encoder.layer.{i}.{name}.bias", (rows,)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "layer_scale1.lambda1", "layer_scale2.lambda1"):
            yield f"encoder.layer.{i}.{name}", (d,)
    yield "layernorm.weight", (d,)
    yield "layernorm.bias", (d,)


def numbers(shape, kind, random):
    values = random.standard_normal(shape, dtype=np.float32) * 0.02
    # bfloat16 has no type in numpy: the upper halves of the numbers, whose type the header then says.
    return (values.view(np.uint32) >> 16).astype(np.uint16) if kind == "bf16" else values.astype(kind)


def as_bf16(path):
    """Says BF16 where the header says U16; the same length."""
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = bytes(data[8 : 8 + length]).replace(b'"U16"', b'"BF16"')
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def write(folder, kind, shards):
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    names, files = list(shapes()), {}
    for n in range(shards):
        part = names[n * len(names) // shards : (n + 1) * len(names) // shards]
        file = "model.safetensors" if shards == 1 else f"model-{n + 1:05}-of-{shards:05}.safetensors"
        save_file({name: numbers(shape, kind, random) for name, shape in part}, folder / file)
        if kind == "bf16":
            as_bf16(folder / file)
        files |= {name: file for name, _ in part}
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "dinov2", "hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": WIDTH // 64, "mlp_ratio": 4,
        "patch_size": PATCH, "image_size": PATCH * SIDE, "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "qkv_bias": True, "use_swiglu_ffn": False, "layerscale_value": 1.0}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}))
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))


# In a small process: a child's peak begins with what the process has that it was forked from.
CHILD = """
import os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
sys.exit(status != 0)
"""


def opened(host, folder, environment):
    """Seconds that passed, seconds on the processors, and bytes at the most."""
    command = [sys.executable, "-c", CHILD, host, "-q", "backbone", "inspect", str(folder)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | environment)
    return [float(v) for v in ran.stdout.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("-n", "--repetitions", type=int, default=5)
    parser.add_argument("--kernels", default="", help="as $ANYMC3D_KERNELS: avx2, avx512, ...")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    environment = {"ANYMC3D_KERNELS": args.kernels} if args.kernels else {}
    try:
        print(f"load {os.getloadavg()[0]:.1f}\n{'':16}{'file MB':>9}{'seconds':>9}{'processor':>11}{'peak MB':>9}{'times the file':>16}")
        for kind, shards in [("float16", 1), ("bf16", 1), ("float32", 1), ("float16", 4)]:
            place = folder / f"{kind}-{shards}"
            size = write(place, kind, shards)
            runs = [opened(args.host, place, environment) for _ in range(args.repetitions + 1)][1:]
            seconds, processor, peak = min(r[0] for r in runs), min(r[1] for r in runs), max(r[2] for r in runs)
            name = kind if shards == 1 else f"{kind}, {shards} shards"
            print(f"{name:16}{size / 1e6:9.0f}{seconds:9.2f}{processor:11.2f}{peak / 1e6:9.0f}{peak / size:16.2f}", flush=True)
            shutil.rmtree(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
