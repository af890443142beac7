"""The extension module, for type checkers. What each function does is said where the package wraps it."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Affine: TypeAlias = Sequence[Sequence[float]]
Source: TypeAlias = str | PathLike[str] | tuple[Floats, Affine]

__version__: str

def set_installation(folder: str | PathLike[str]) -> bool: ...
def backbones() -> list[str]: ...
def plugins() -> list[str]: ...

class Backbone:
    @staticmethod
    def open(name: str, device_name: str, precision_name: str) -> Backbone: ...
    def info(self) -> dict[str, Any]: ...
    def embed(self, pixels: Floats, peft: str | PathLike[str] | None) -> list[Floats]: ...

class Host:
    @staticmethod
    def open(
        plugins: Sequence[str],
        backbone: Backbone | None,
        weights: Sequence[str | PathLike[str]],
        device_name: str,
        precision_name: str,
        segmentation: bool,
    ) -> Host: ...
    def manifests(self) -> list[str]: ...
    def backbone(self, index: int) -> Backbone: ...
    def run(
        self,
        name: str,
        image: Source | None,
        views: Mapping[str, Source],
        mask: Source | None,
        point_mm: Sequence[float] | None,
        plugins: Sequence[int],
        evidence: bool,
    ) -> list[Answer | BaseException]: ...
    def embed_case(
        self,
        name: str,
        image: Source | None,
        views: Mapping[str, Source],
        mask: Source | None,
        point_mm: Sequence[float] | None,
        plugin: int,
        adapted: bool,
    ) -> list[tuple[str, Floats, Floats]]: ...
    def pixels(
        self,
        name: str,
        image: Source | None,
        views: Mapping[str, Source],
        mask: Source | None,
        point_mm: Sequence[float] | None,
        plugin: int,
    ) -> list[tuple[str, Floats]]: ...
    def identity(self, index: int) -> list[str]: ...

class Answer:
    def json(self) -> str: ...
    def affine(self) -> list[list[float]] | None: ...
    def heatmap(self) -> Floats | None: ...
    def mask(self) -> npt.NDArray[np.uint8] | None: ...
    def preview(self) -> bytes | None: ...
    def save(self, folder: str | PathLike[str]) -> str: ...

def train(
    plugin: str,
    table: str | PathLike[str],
    out: str | PathLike[str],
    backbone: Backbone,
    options_json: str,
    start: str | PathLike[str] | None,
    resume: bool,
    checked: bool,
    cache: str | PathLike[str] | None,
    cache_gib: float,
    intended_use: str | None,
    progress: Callable[[str], object] | None,
) -> str: ...
def evaluate(
    host: Host,
    plugin: int,
    data: str | PathLike[str],
    split: str | None,
    bootstrap: int,
    seed: int,
    out: str | PathLike[str] | None,
    progress: Callable[[int, int], object] | None,
) -> tuple[str, list[str]]: ...
def evaluate_predictions(
    predictions: str | PathLike[str],
    data: str | PathLike[str] | None,
    columns: str | None,
    threshold: float,
    bootstrap: int,
    seed: int,
    out: str | PathLike[str] | None,
) -> str: ...
def import_peft(
    plugin: str,
    backbone: Backbone,
    peft: str | PathLike[str] | None,
    head: str | PathLike[str] | None,
    out: str | PathLike[str],
    intended_use: str | None,
) -> None: ...
def export_peft(
    plugin: str,
    backbone: Backbone,
    weights: str | PathLike[str] | None,
    out: str | PathLike[str],
    transformers: int,
) -> list[str]: ...
def parameters(plugin: str, backbone: Backbone) -> dict[str, list[int]]: ...
