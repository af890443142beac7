"""Training from Python: progress, Ctrl-C, going on, and what comes out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anymc3d
import pytest

#: As small as a run may be.
SMALL: dict[str, Any] = {"epochs": 1, "augment": "none", "draws": 1, "batch": 2, "variant": {"first_block": 11}}


def test_a_run_tells_of_every_case_and_its_weights_predict(
    phantoms: Path, tmp_path: Path, backbone: anymc3d.Backbone, scan_path: Path
) -> None:
    events: list[Mapping[str, Any]] = []
    trained = anymc3d.train("lung_nodule", phantoms, tmp_path / "run", backbone=backbone, progress=events.append, **SMALL)
    kinds = [event["event"] for event in events]
    cases = events[0]["cases"]
    assert kinds[0] == "begin" and kinds.count("case") == cases and kinds[-1] == "epoch"
    assert [e["epoch"] for e in trained.epochs] == [1]
    host = anymc3d.Host(backbone, plugins=["lung_nodule"], weights=trained.weights)
    assert 0 < host.run(scan_path).probability < 1
    figures = anymc3d.evaluate(host, phantoms, bootstrap=0, out=tmp_path / "figures")
    assert figures["labelled_cases"] == 6 and (tmp_path / "figures/roc.svg").is_file()


def test_python_and_the_program_train_the_same_weights(
    phantoms: Path, tmp_path: Path, backbone: anymc3d.Backbone, program: Callable[..., Any]
) -> None:
    mine = anymc3d.train("lung_nodule", phantoms, tmp_path / "python", backbone=backbone, **SMALL)
    options = ["--epochs", 1, "--augment", "none", "--batch", 2, "--first-block", 11, "--precision", "f32"]
    ran = program("train", "--plugin", "lung_nodule", "--data", phantoms, "--out", tmp_path / "cli", *options)
    assert ran.returncode == 0, ran.stderr
    a, b = ((tmp_path / way / "lung_nodule.safetensors").read_bytes() for way in ("python", "cli"))
    # The headers hold times; the numbers come after them.
    tensors = [data[8 + int.from_bytes(data[:8], "little") :] for data in (a, b)]
    assert tensors[0] == tensors[1] and mine.weights == tmp_path / "python/lung_nodule.safetensors"


def test_an_exception_of_the_callback_ends_the_run_and_it_goes_on_from_there(
    phantoms: Path, tmp_path: Path, backbone: anymc3d.Backbone
) -> None:
    class Enough(Exception):
        pass

    def stop(event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch":
            raise Enough

    two = {**SMALL, "epochs": 2}
    with pytest.raises(Enough):
        anymc3d.train("lung_nodule", phantoms, tmp_path / "run", backbone=backbone, progress=stop, **two)
    trained = anymc3d.train("lung_nodule", phantoms, tmp_path / "run", backbone=backbone, resume=True, **two)
    assert [e["epoch"] for e in trained.epochs] == [1, 2]


INTERRUPTED = """
import signal, sys, anymc3d
# What a shell starts in the background ignores the signal, and so does all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
def told(event):
    if event["event"] == "case":
        print("case", flush=True)
try:
    anymc3d.train("lung_nodule", sys.argv[1], sys.argv[2], epochs=50, augment="none", draws=1, progress=told, cache_gib=0)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_run(phantoms: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", INTERRUPTED, str(phantoms), str(tmp_path / "run")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None and process.stdout.readline() == "case\n"
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        lines = process.stdout.readline()
        while lines == "case\n" and time.monotonic() < sent + 60:
            lines = process.stdout.readline()
        process.kill()
        print(f"KeyboardInterrupt after {time.monotonic() - sent:.2f} s")
        assert lines == "interrupted\n"


def test_tables_and_options_that_cannot_be_are_refused(phantoms: Path, tmp_path: Path, backbone: anymc3d.Backbone) -> None:
    with pytest.raises(anymc3d.UsageError, match="option `epoks` is unknown"):
        anymc3d.train("lung_nodule", phantoms, tmp_path / "run", backbone=backbone, epoks=3)
    with pytest.raises(anymc3d.UsageError, match="1 or more"):
        anymc3d.train("lung_nodule", phantoms, tmp_path / "run", backbone=backbone, epochs=0)
    table = tmp_path / "table.csv"
    table.write_text("case,image,nodule\na,nothing.nii.gz,1\n")
    with pytest.raises(anymc3d.TrainError, match="nothing.nii.gz"):
        anymc3d.train("lung_nodule", table, tmp_path / "run", backbone=backbone)
    assert not (tmp_path / "run").exists()


def test_any_models_scores_are_measured(tmp_path: Path) -> None:
    metrics: Any = pytest.importorskip("sklearn.metrics")
    pandas: Any = pytest.importorskip("pandas")
    scores = pandas.DataFrame(
        {"case": list("abcdef"), "nodule": [0, 0, 1, 1, 0, 1], "p_nodule": [0.1, 0.7, 0.6, 0.9, 0.2, 0.4]}
    )
    figures = anymc3d.evaluate(predictions=scores, bootstrap=0)
    assert figures["macro_auroc"] == pytest.approx(metrics.roc_auc_score(scores.nodule, scores.p_nodule))
