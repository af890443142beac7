"""One frozen 2D vision foundation model, any number of 3D medical classification tasks as plugins.

>>> import anymc3d
>>> host = anymc3d.Host(plugins=["lung_nodule"])
>>> result = host.run("chest_phantom.nii.gz")
>>> result.predictions[0].label
'nodule'

Research only. Not for diagnosis.
"""

from __future__ import annotations

from pathlib import Path as _Path

from . import _native
from ._native import __version__, backbones, plugins
from .backbone import Backbone, Embedding
from .errors import (
    AnymcError,
    BackboneError,
    Cancelled,
    EvaluationError,
    OutputError,
    PluginError,
    ScanError,
    TaskError,
    TrainError,
    UsageError,
    WeightsError,
)
from .features import features
from .host import Host
from .peft import Exported, export, to_peft
from .result import Novelty, Prediction, Result, TopSlice, Value, View
from .training import Trained, evaluate, train

#: The folder with the program ``host``, the plugins and their weights; backbones lie beside it.
INSTALLATION = _Path(__file__).parent / "_host"
if INSTALLATION.is_dir():
    _native.set_installation(INSTALLATION)

__all__ = [
    "INSTALLATION",
    "AnymcError",
    "Backbone",
    "BackboneError",
    "Cancelled",
    "Embedding",
    "EvaluationError",
    "Exported",
    "Host",
    "Novelty",
    "OutputError",
    "PluginError",
    "Prediction",
    "Result",
    "ScanError",
    "TaskError",
    "TopSlice",
    "TrainError",
    "Trained",
    "UsageError",
    "Value",
    "View",
    "WeightsError",
    "__version__",
    "backbones",
    "evaluate",
    "export",
    "features",
    "plugins",
    "to_peft",
    "train",
]
