"""What a plugin says of a case."""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _native

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Novelty", "Prediction", "Result", "TopSlice", "Value", "View"]


@dataclass(frozen=True)
class Prediction:
    """One label's answer."""

    #: Label or class.
    label: str
    #: 0 to 1; calibrated where a temperature is stored with the weights.
    probability: float
    #: Before temperature and sigmoid or softmax.
    logit: float
    #: Positive from here on; ``None`` for classes, of which the most probable one is positive.
    threshold: float | None
    #: The decision.
    positive: bool


@dataclass(frozen=True)
class Value:
    """A number on the scale of an ordinal or regression task."""

    label: str
    value: float
    #: Ends of the scale.
    range: tuple[float, float]


@dataclass(frozen=True)
class Novelty:
    """How far a case is from those that the weights were trained on."""

    #: Mahalanobis distance from the training cases.
    distance: float
    #: Share of the training cases that are nearer, 0 to 100.
    percentile: float
    #: Whether it is farther than 99.5 % of the training cases. Then :attr:`Result.warnings` says so too.
    outside: bool
    #: The distance within which 99.5 % of the training cases are.
    limit: float
    #: How many training cases it was compared with.
    reference_cases: int
    #: Of a task with several views the one that lies farthest out.
    view: str | None = None


@dataclass(frozen=True)
class TopSlice:
    """A slice by its place in the original scan."""

    #: Along the scan's own slice axis.
    index: int
    #: Its share; the weights of a view sum to 1.
    weight: float
    #: RAS mm along that axis.
    position_mm: float


@dataclass(frozen=True)
class View:
    """One view of a case."""

    name: str
    #: Number of slices S.
    slices: int
    #: ``[S]``: weight of each slice; empty where the head tells none.
    weights: list[float] = field(repr=False)
    #: The heaviest slices, heaviest first.
    top_slices: list[TopSlice]


@dataclass(frozen=True)
class Result:
    """What a plugin says of a case, with where it looked. Heatmap and picture take a megabyte, the scan itself is let go.

    Research only. Not for diagnosis.
    """

    #: Name of the case.
    case: str
    #: Name of the plugin.
    plugin: str
    #: One per label or class.
    predictions: list[Prediction]
    #: The numbers of an ordinal or regression task.
    values: list[Value]
    #: How far the case is from the training cases; ``None`` where the weights do not know them.
    novelty: Novelty | None
    #: One per view that was there.
    views: list[View]
    #: What a reader should know before believing it.
    warnings: list[str]
    #: What the result may be used for.
    intended_use: str
    _answer: _native.Answer = field(repr=False, compare=False)
    _record: dict[str, Any] = field(repr=False)

    @classmethod
    def _of(cls, answer: _native.Answer) -> Result:
        record = json.loads(answer.json())
        keys = ("label", "probability", "logit", "threshold", "positive")
        return cls(
            case=record["case"],
            plugin=record["plugin"]["name"],
            predictions=[Prediction(**{key: p[key] for key in keys}) for p in record["predictions"]],
            values=[
                Value(v["label"], v["value"], (v["range"][0], v["range"][1])) for v in record.get("values", [])
            ],
            novelty=Novelty(**record["novelty"]) if "novelty" in record else None,
            views=[
                View(v["name"], v["slices"], v["weights"], [TopSlice(**top) for top in v["top_slices"]])
                for v in record["views"]
            ],
            warnings=record["warnings"],
            intended_use=record["intended_use"],
            _answer=answer,
            _record=record,
        )

    def to_dict(self) -> dict[str, Any]:
        """The record as ``result.json`` has it (schema ``anymc3d/result/1``)."""
        copy: dict[str, Any] = json.loads(json.dumps(self._record))
        return copy

    @property
    def probability(self) -> float:
        """Of the first label."""
        return self.predictions[0].probability

    @property
    def affine(self) -> npt.NDArray[np.float64] | None:
        """``[4, 4]``: voxel index → RAS mm of :attr:`heatmap` and :attr:`mask`."""
        import numpy as np

        affine = self._answer.affine()
        return None if affine is None else np.array(affine)

    @property
    def heatmap(self) -> npt.NDArray[np.float32] | None:
        """``[x, y, z]`` on the scan's own grid: class attention (or the head's patch weights) times slice weight.

        Computed at each access. ``None`` after ``run(..., heatmap=False)``.
        """
        return self._answer.heatmap()

    @property
    def mask(self) -> npt.NDArray[np.uint8] | None:
        """``[x, y, z]`` on the scan's own grid: 1 where the decoder's probability is 0.5 or more.

        ``None`` unless the host was opened with ``segmentation=True`` and the plugin has a decoder.
        """
        return self._answer.mask()

    @property
    def preview(self) -> bytes | None:
        """PNG of the slices that weighed most, and where the model looked. ``None`` after ``run(..., heatmap=False)``."""
        return self._answer.preview()

    def save(self, folder: str | PathLike[str]) -> Path:
        """Writes ``result.json``, ``heatmap.nii.gz``, ``preview.png`` and, where there is a mask, ``segmentation.nii.gz``.

        The files are those that ``host run --out`` writes into a case's folder. Files of these names are replaced.

        :raises OutputError: when the folder cannot be written to.
        """
        self._answer.save(folder)
        return Path(folder)

    def _repr_html_(self) -> str:
        def percent(p: Prediction) -> str:
            return f"{100 * p.probability:.1f} %"

        rows = "".join(
            f"<tr><td>{html.escape(p.label)}</td><td>{percent(p)}</td>"
            f"<td>{'positive' if p.positive else 'negative'}</td></tr>"
            for p in self.predictions
        )
        values = "".join(
            f"<tr><td>{html.escape(v.label)}</td><td>{v.value:.3g}</td><td>{v.range[0]:g} to {v.range[1]:g}</td></tr>"
            for v in self.values
        )
        warnings = "".join(f"<li>{html.escape(w)}</li>" for w in self.warnings)
        novelty = ""
        if self.novelty is not None:
            n = self.novelty
            place = "unlike" if n.outside else "like"
            novelty = (
                f"<p>{place} the {n.reference_cases} training cases: distance {n.distance:.1f}, "
                f"farther than {n.percentile:.1f} % of them</p>"
            )
        png = self.preview
        picture = ""
        if png is not None:
            data = base64.b64encode(png).decode("ascii")
            picture = f'<img alt="where the model looked" src="data:image/png;base64,{data}" style="max-width:100%">'
        return (
            f"<div><b>{html.escape(self.plugin)}</b>: {html.escape(self.case)}"
            f"<table><tr><th>label</th><th>probability</th><th>decision</th></tr>{rows}{values}</table>"
            f"{novelty}{picture}<ul>{warnings}</ul><small>{html.escape(self.intended_use)}</small></div>"
        )
