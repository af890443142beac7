"""tritonclient's own calls against `host serve`: health, metadata, inference with binary and JSON tensors, what is refused, and 50
calls at a time. Answers are those of `host run` to the bit.

    python tritonclient_calls.py HOST BENCH BACKBONE
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).parent))
from server import SHAPE, Server, answers_of_run, nifti  # noqa: E402

AFFINE = np.diag([9.0, 9.0, 12.0, 1.0])


def inputs(voxels, affine, binary):
    image = triton.InferInput("voxels", list(voxels.shape), "FP32")
    image.set_data_from_numpy(voxels, binary_data=binary)
    place = triton.InferInput("affine", list(affine.shape), "FP64")
    place.set_data_from_numpy(affine, binary_data=binary)
    return [image, place]


def refused(call, *said):
    try:
        call()
    except InferenceServerException as e:
        assert all(text in str(e) for text in said), e
        return
    raise SystemExit(f"not refused: {said}")


def main():
    host, bench, backbone = sys.argv[1:4]
    plugin = ["--plugin", f"{bench}/good.so", "--backbone", backbone]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        scans = {}
        for seed in range(8):
            data, numbers = nifti(seed)
            (folder / f"{seed}.nii").write_bytes(data)
            scans[seed] = np.array(numbers, np.float32).reshape(SHAPE)
        expected = answers_of_run(host, plugin, sorted(folder.glob("*.nii")))
        digest = {seed: hashlib.sha256((folder / f"{seed}.nii").read_bytes()).hexdigest() for seed in scans}
        expected = {seed: expected[digest[seed], "mean_probe"] for seed in scans}
        server = Server(host, [*plugin, "--max-request", "1M", "--queue", "64"], folder / "data")
        client = triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=50, connection_timeout=120,
                                              network_timeout=120)
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("mean_probe")
        assert client.is_model_ready("mean_probe", "0.1.0") and not client.is_model_ready("other")
        about = client.get_model_metadata("mean_probe")
        assert about["inputs"][0] == {"name": "voxels", "datatype": "FP32", "shape": [-1, -1, -1]}, about
        assert client.get_server_metadata()["name"] == "anymc3d"
        assert client.get_model_repository_index()[0]["state"] == "READY"
        calls = 0
        for seed, voxels in scans.items():
            for binary in (True, False):
                for packed in (None, "gzip", "deflate"):
                    answer = client.infer("mean_probe", inputs(voxels, AFFINE, binary), request_id=str(seed),
                                          request_compression_algorithm=packed)
                    got = answer.as_numpy("probabilities").tolist()
                    assert got == expected[seed], (seed, binary, packed, got, expected[seed])
                    assert answer.get_response()["id"] == str(seed)
                    calls += 1
            plain = [triton.InferRequestedOutput(name, binary_data=False) for name in ("probabilities", "heatmap")]
            answer = client.infer("mean_probe", inputs(voxels, AFFINE, True), outputs=plain)
            assert answer.as_numpy("probabilities").tolist() == expected[seed]
            heat = answer.as_numpy("heatmap")
            assert heat.shape == SHAPE and heat.max() > 0 and heat.dtype == np.float32
            binary = client.infer("mean_probe", inputs(voxels, AFFINE, True),
                                  outputs=[triton.InferRequestedOutput("heatmap", binary_data=True)])
            assert np.array_equal(binary.as_numpy("heatmap"), heat)
        print(f"{calls} calls, binary, JSON, gzip and deflate: all equal to host run to the bit")

        voxels = scans[0]
        refused(lambda: client.infer("mean_probe", inputs(voxels[0], AFFINE, True)), "[400]", "[D,H,W]")
        refused(lambda: client.infer("mean_probe", inputs(voxels, AFFINE[:3], True)), "[400]", "affine")
        refused(lambda: client.infer("other", inputs(voxels, AFFINE, True)), "[404]", "mean_probe")
        refused(lambda: client.infer("mean_probe", inputs(voxels, AFFINE, True), model_version="7"), "[404]", "0.1.0")
        refused(lambda: client.infer("mean_probe", inputs(voxels, AFFINE, True),
                                     outputs=[triton.InferRequestedOutput("mask")]), "[400]", "no output")
        large = np.zeros((80, 80, 80), np.float32)
        refused(lambda: client.infer("mean_probe", inputs(large, AFFINE, True)), "[413]")
        print("wrong shape, wrong name, wrong version, unknown output, oversized body: refused in the protocol's form")

        # The client sends them from greenlets of one thread, as many at a time as it has connections.
        asked = [(i % len(scans), client.async_infer("mean_probe", inputs(scans[i % len(scans)], AFFINE, i % 2 == 0)))
                 for i in range(200)]
        for seed, answer in asked:
            assert answer.get_result().as_numpy("probabilities").tolist() == expected[seed], seed
        print("50 calls at a time, 200 in all: every answer is its scan's")
        client.close()
        assert server.stop() == 0
        assert not list((folder / "data/requests").iterdir()), "files of requests are left"


if __name__ == "__main__":
    main()
