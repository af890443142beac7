"""KServe's Python client against `host serve`: health, readiness and inference, JSON and binary, as its users call it. Answers are
those of `host run` to the bit.

    python kserve_calls.py HOST BENCH BACKBONE

Needs `kserve` (PyPI), which brings 60 packages along, an HTTP server and a client of Kubernetes among them: it is run by hand, not in CI.
"""

import asyncio
import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

sys.path.insert(0, str(Path(__file__).parent))
from server import SHAPE, Server, answers_of_run, nifti  # noqa: E402

AFFINE = np.diag([9.0, 9.0, 12.0, 1.0])


def request(voxels, binary, outputs=None):
    image = InferInput("voxels", list(voxels.shape), "FP32")
    image.set_data_from_numpy(voxels, binary_data=binary)
    place = InferInput("affine", [4, 4], "FP64")
    place.set_data_from_numpy(AFFINE, binary_data=binary)
    return InferRequest("mean_probe", [image, place], request_id="7", request_outputs=outputs)


async def calls(server, scans, expected):
    url = f"http://127.0.0.1:{server.port}"
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=120))
    assert await client.is_server_live(url) and await client.is_server_ready(url)
    assert await client.is_model_ready(url, "mean_probe")
    count = 0
    for seed, voxels in scans.items():
        for binary in (True, False):
            outputs = [RequestedOutput("probabilities", {"binary_data": binary})]
            for wanted in (None, outputs):
                answer = await client.infer(url, request(voxels, binary, wanted), model_name="mean_probe")
                found = {output.name: output.as_numpy().tolist() for output in answer.outputs}
                assert found["probabilities"] == expected[seed], (seed, binary, found, expected[seed])
                assert answer.id == "7" and answer.model_name == "mean_probe"
                count += 1
    answers = await asyncio.gather(*[client.infer(url, request(scans[i % len(scans)], i % 2 == 0), model_name="mean_probe")
                                     for i in range(60)])
    for i, answer in enumerate(answers):
        assert next(o for o in answer.outputs if o.name == "probabilities").as_numpy().tolist() == expected[i % len(scans)]
    try:
        await client.infer(url, request(scans[0][0], True), model_name="mean_probe")
        raise SystemExit("a wrong shape was not refused")
    except Exception as e:  # httpx.HTTPStatusError
        assert "400" in str(e), e
    await client.close()
    print(f"kserve: {count} calls, binary and JSON, and {len(answers)} at a time: all equal to host run to the bit")


def main():
    host, bench, backbone = sys.argv[1:4]
    plugin = ["--plugin", f"{bench}/good.so", "--backbone", backbone]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        scans, digest = {}, {}
        for seed in range(4):
            data, numbers = nifti(seed)
            (folder / f"{seed}.nii").write_bytes(data)
            scans[seed] = np.array(numbers, np.float32).reshape(SHAPE)
            digest[seed] = hashlib.sha256(data).hexdigest()
        found = answers_of_run(host, plugin, sorted(folder.glob("*.nii")))
        server = Server(host, [*plugin, "--queue", "128"], folder / "data")
        asyncio.run(calls(server, scans, {seed: found[digest[seed], "mean_probe"] for seed in scans}))
        assert server.stop() == 0


if __name__ == "__main__":
    main()
