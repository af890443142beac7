"""Between PyTorch and here: adapters of Hugging Face's peft, heads as state dicts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _native
from .backbone import Backbone
from .errors import UsageError, WeightsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Exported", "export", "to_peft"]

#: Largest difference between PyTorch's tokens and the host's.
TOLERANCE = 2e-4


@dataclass(frozen=True)
class Exported:
    """Weights that were written, and how they were compared."""

    #: For ``host run --weights``, ``Host(weights=…)``, or ``train(start=…)`` where no head was given.
    weights: Path
    #: Largest difference of a class or patch token from PyTorch's on the golden input; ``None`` where the adapter came as a
    #: folder, without a model to compare with.
    difference: float | None


def export(
    *,
    adapter: Any,
    plugin: str | PathLike[str],
    out: str | PathLike[str],
    head: Mapping[str, Any] | str | PathLike[str] | None = None,
    backbone: Backbone | None = None,
    golden: npt.ArrayLike | None = None,
    tolerance: float = TOLERANCE,
    intended_use: str | None = None,
) -> Exported:
    """Writes an adapter that PyTorch trained, and a head, as weights of a plugin.

    Names and shapes are checked, each by its name. A model is run on a golden input, and its tokens are compared with those of
    the host: nothing is written where they differ.

    :param adapter: a ``PeftModel`` around the backbone's transformers model, or the folder that its ``save_pretrained`` wrote; ``None`` for a head on
        the frozen backbone.
    :param plugin: name or path of the plugin's library.
    :param out: file for the weights (``.safetensors``).
    :param head: state dict by the plugin's parameter names, with or without ``head.``, or a ``.safetensors`` file of it. Without
        it the weights are a start for :func:`anymc3d.train`.
    :param backbone: the backbone that was adapted, in ``f32``; by default the one that ships.
    :param golden: ``[S, 3, H, W]``, normalised pixels to compare on; by default two slices of fixed noise.
    :param tolerance: largest difference of a token.
    :param intended_use: what the weights may be used for, in a sentence.
    :raises WeightsError: what does not fit, or differs.
    """
    opened = backbone if backbone is not None else Backbone.open(precision="f32")
    with tempfile.TemporaryDirectory(prefix="anymc3d-") as scratch:
        folder, difference = _folder(adapter, Path(scratch) / "peft"), None
        if folder is not None and hasattr(adapter, "save_pretrained"):
            difference = _compared(adapter, opened, folder, golden, tolerance)
        file = _head_file(head, Path(scratch))
        _native.import_peft(str(plugin), opened._native, folder, file, out, intended_use)
    return Exported(Path(out), difference)


def to_peft(
    plugin: str | PathLike[str],
    out: str | PathLike[str],
    *,
    weights: str | PathLike[str] | None = None,
    backbone: Backbone | None = None,
    transformers: int | None = None,
) -> list[Path]:
    """Writes a task's adapter as a folder that ``PeftModel.from_pretrained`` reads, and its head as ``head.safetensors``.

    A plugin with several views gets a folder for each, ``out/VIEW``.

    :param weights: trained weights; without it those that ``host run`` finds.
    :param transformers: major version of transformers, which names the layers; by default the installed one, else 5.
    :returns: the folders, and the head's file.
    """
    opened = backbone if backbone is not None else Backbone.open(precision="f32")
    major = transformers if transformers is not None else _installed()
    written = _native.export_peft(str(plugin), opened._native, weights, out, major)
    return [Path(path) for path in written]


def _installed() -> int:
    from importlib import metadata

    try:
        return int(metadata.version("transformers").split(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return 5


def _folder(adapter: Any, scratch: Path) -> Path | None:
    if adapter is None:
        return None
    if isinstance(adapter, (str, PathLike)):
        return Path(adapter)
    if not hasattr(adapter, "save_pretrained"):
        raise UsageError(f"an adapter of type {type(adapter).__name__}; expected a PeftModel or its folder")
    adapter.save_pretrained(scratch, safe_serialization=True)
    # Of a model with several adapters the active one, in a folder of its name.
    inner = scratch / str(getattr(adapter, "active_adapter", ""))
    return inner if (inner / "adapter_config.json").is_file() else scratch


def _head_file(head: Mapping[str, Any] | str | PathLike[str] | None, scratch: Path) -> Path | None:
    if head is None or isinstance(head, (str, PathLike)):
        return None if head is None else Path(head)
    import numpy as np

    tensors = {}
    for name, tensor in head.items():
        array = tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
        tensors[name] = np.ascontiguousarray(array, dtype=np.float32)
    path = scratch / "head.safetensors"
    path.write_bytes(_safetensors(tensors))
    return path


def _safetensors(tensors: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """The format is a length, a JSON header and the numbers: no package is needed for it."""
    import json

    header, data = {}, b""
    for name, array in tensors.items():
        end = len(data) + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def _compared(
    model: Any, backbone: Backbone, folder: Path, golden: npt.ArrayLike | None, tolerance: float
) -> float:
    """Largest difference between a model's tokens and the host's."""
    import numpy as np
    import torch

    edge = 8 * backbone.patch_size
    pixels = np.asarray(
        golden if golden is not None else np.random.default_rng(0).standard_normal((2, 3, edge, edge)), np.float32
    )
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parameter = next(model.parameters())
            given = torch.from_numpy(pixels).to(parameter.device, parameter.dtype)
            answer = model(pixel_values=given).last_hidden_state.float().cpu().numpy()
    finally:
        model.train(training)
    ours = backbone.embed(pixels, peft=folder)
    slices, width = ours.class_tokens.shape
    patches = ours.patch_tokens.reshape(slices, -1, width)
    theirs = answer[:, -patches.shape[1] :]
    difference = float(np.abs(patches - theirs).max())
    if answer.shape[1] > patches.shape[1]:
        difference = max(difference, float(np.abs(ours.class_tokens - answer[:, 0]).max()))
    if not difference <= tolerance:
        raise WeightsError(
            f"tokens differ from PyTorch's by {difference:.2e}, expected at most {tolerance:.0e}; is the model's backbone "
            f"{backbone.name}, and is the backbone open in f32?"
        )
    return difference
