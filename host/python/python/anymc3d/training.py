"""Training a plugin on a table, and measuring one."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _native
from .backbone import Backbone
from .errors import UsageError
from .host import Host

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Trained", "evaluate", "train"]


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    #: The weights of the best epoch.
    weights: Path
    #: Every epoch: epoch, loss, val_loss, val_auroc, seconds and more, as ``metrics.csv`` has them.
    epochs: list[dict[str, Any]]
    #: How they came about, as ``training.json`` has it.
    record: dict[str, Any]
    #: Temperatures and thresholds that were fitted on the validation cases.
    calibration: dict[str, Any] | None


@contextlib.contextmanager
def table_file(table: str | PathLike[str] | pd.DataFrame) -> Iterator[Path]:
    """A table as a file. A DataFrame is written for the time of the call; its paths are relative to the working folder."""
    if isinstance(table, (str, PathLike)):
        yield Path(table)
        return
    with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
        frame = table.copy()
        for column in frame.columns:
            if column in ("image", "mask") or str(column).startswith("image."):
                frame[column] = [str(Path(p).absolute()) if isinstance(p, str) and p else p for p in frame[column]]
        path = Path(folder) / "table.csv"
        frame.to_csv(path, index=False)
        yield path


def train(
    plugin: str | PathLike[str],
    table: str | PathLike[str],
    out: str | PathLike[str],
    *,
    backbone: Backbone | None = None,
    start: str | PathLike[str] | None = None,
    resume: bool = False,
    check: bool = True,
    cache: str | PathLike[str] | None = None,
    cache_gib: float = 16.0,
    intended_use: str | None = None,
    progress: Callable[[Mapping[str, Any]], object] | None = None,
    **options: Any,
) -> Trained:
    """Trains a plugin, as ``host train`` does.

    Ctrl-C raises ``KeyboardInterrupt`` within a second; the last whole epoch is kept, and ``resume=True`` goes on from it. So
    does any exception of ``progress``.

    :param plugin: name or path of a library.
    :param table: CSV with the columns case, image (or image.VIEW), one per label; optional patient, group, mask, point, split.
    :param out: folder for weights, model card, metrics.csv, predictions.csv and training.json.
    :param backbone: an open backbone; without it the default one.
    :param start: weights to start from, or a part of them, as :func:`anymc3d.export` writes them of an adapter.
    :param resume: continue the run in ``out``.
    :param check: open every scan and mask before the first step.
    :param cache: folder for cached features.
    :param cache_gib: most disk space for cached features, GiB; 0 caches none.
    :param intended_use: what the weights may be used for, in a sentence.
    :param progress: called with a mapping of each event, its kind in ``event``: ``begin`` (cases, done), ``read`` (cases, done),
        ``case`` (epoch, loss), ``epoch`` (epoch, loss, val_loss, val_auroc, seconds, best, …).
    :param options: epochs, batch, lr, head_lr, weight_decay, head_weight_decay, lambda, warmup, augment (``none``, ``flips``,
        ``full``), draws, clip, patience, val_fraction, seed, variant. Python's ``lambda_`` stands for ``lambda``.
    :raises TrainError: a table, or a run, that cannot be.

    >>> train("lung_nodule", "table.csv", "run", epoks=1)
    Traceback (most recent call last):
    anymc3d.errors.UsageError: option `epoks` is unknown; expected one of ...
    """
    given = {key.rstrip("_"): value for key, value in options.items()}
    opened = backbone if backbone is not None else Backbone.open()
    hears = None if progress is None else _parsed(progress)
    ended = _native.train(
        str(plugin),
        table,
        out,
        opened._native,
        json.dumps(given),
        start,
        resume,
        check,
        cache,
        cache_gib,
        intended_use,
        hears,
    )
    found = json.loads(ended)
    return Trained(Path(found["weights"]), found["epochs"], found["record"], found["calibration"])


def _parsed(progress: Callable[[Mapping[str, Any]], object]) -> Callable[[str], object]:
    return lambda event: progress(json.loads(event))


def evaluate(
    host: Host | None = None,
    table: str | PathLike[str] | pd.DataFrame | None = None,
    *,
    plugin: str | None = None,
    predictions: str | PathLike[str] | pd.DataFrame | None = None,
    columns: str | None = None,
    threshold: float = 0.5,
    split: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Measures a plugin on labelled cases, or any model's scores, as ``host eval`` does: the content of ``metrics.json``.

    :param host: the host whose plugin predicts; leave it out with ``predictions``.
    :param table: labelled cases: a CSV, or a DataFrame with the same columns; with ``predictions`` where their truth is.
    :param plugin: which of the host's plugins.
    :param predictions: scores of any model: columns case, LABEL, p_LABEL; optional patient.
    :param columns: what columns of ``predictions`` are called: ``case=ID,truth=nodule,score=p``.
    :param threshold: of ``predictions``: positive at p >= threshold.
    :param split: ``train``, ``val`` or ``test``: the cases of the table's column ``split`` alone.
    :param bootstrap: samples of patients for the 95 % intervals; 0 leaves them out.
    :param out: folder for metrics.json, predictions.csv and the charts.
    :param progress: called with the number of cases that are done, and of all.
    :returns: with ``failures``, a line of each case without an answer.
    :raises EvaluationError: when there is nothing to measure.
    """
    if (host is None) == (predictions is None):
        raise UsageError("give a host with a table, or predictions")
    figures: dict[str, Any]
    if predictions is not None:
        with contextlib.ExitStack() as held:
            scores = held.enter_context(table_file(predictions))
            truth = None if table is None else held.enter_context(table_file(table))
            found = _native.evaluate_predictions(scores, truth, columns, threshold, bootstrap, seed, out)
        figures = json.loads(found)
        figures["failures"] = []
        return figures
    if table is None or host is None:
        raise UsageError("a host needs cases to answer: give a table")
    index = host._index(plugin)
    with table_file(table) as path:
        found, failures = _native.evaluate(host._native, index, path, split, bootstrap, seed, out, progress)
    figures = json.loads(found)
    figures["failures"] = failures
    return figures
