"""The frozen backbone: pixels in, tokens out."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from . import _native
from .errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Backbone", "Embedding"]


@dataclass(frozen=True)
class Embedding:
    """What the backbone makes of S slices of h × w patches.

    The arrays own their memory and take part in DLPack: ``torch.from_dlpack(embedding.class_tokens)`` shares it.
    """

    #: ``[S, d]`` float32: class tokens after the final norm.
    class_tokens: npt.NDArray[np.float32]
    #: ``[S, h, w, d]`` float32: patch tokens after the final norm.
    patch_tokens: npt.NDArray[np.float32]
    #: ``[S, h, w]`` float32: how much the class token attends to each patch in the last block, mean over heads.
    class_attention: npt.NDArray[np.float32]


class Backbone:
    """A frozen vision transformer, opened once and shared by every :class:`anymc3d.Host` that is given it.

    >>> backbone = Backbone.open("dinov2-small")
    >>> backbone.embed_dim, backbone.patch_size
    (384, 14)
    """

    def __init__(self, native: _native.Backbone) -> None:
        self._native = native
        self._info = native.info()

    @classmethod
    def open(
        cls, name: str | PathLike[str] = "dinov2-small", *, device: str = "auto", precision: str = "auto"
    ) -> Backbone:
        """Opens a backbone by name or folder.

        :param name: name of a backbone that is installed (:func:`anymc3d.backbones`), or a folder of Hugging Face's form.
        :param device: ``cpu``, ``cuda:N`` or ``auto``.
        :param precision: numbers of the large products: ``f32``, ``bf16``, ``int16``, ``int8``, or ``auto``: bf16
            where the device multiplies it, else f32.
        :raises BackboneError: when it is not found or refused.

        >>> Backbone.open("no-such-backbone")
        Traceback (most recent call last):
        anymc3d.errors.BackboneError: backbone `no-such-backbone`: not found; looked for ...
        """
        return cls(_native.Backbone.open(str(name), device, precision))

    @property
    def info(self) -> dict[str, Any]:
        """What identifies it: name, family, sizes, mean and deviation of the channels, digests."""
        return dict(self._info)

    @property
    def name(self) -> str:
        """Its folder's name."""
        return str(self._info["name"])

    @property
    def embed_dim(self) -> int:
        """d, the width of a token."""
        return int(self._info["embed_dim"])

    @property
    def patch_size(self) -> int:
        """Edge of a patch in pixels."""
        return int(self._info["patch_size"])

    @property
    def precision(self) -> str:
        """``f32`` or ``bf16``."""
        return str(self._info["precision"])

    def embed(self, pixels: npt.ArrayLike, *, peft: str | PathLike[str] | None = None) -> Embedding:
        """Tokens of slices.

        :param pixels: ``[S, 3, H, W]``, normalised by the backbone's mean and deviation; H and W are multiples of
            :attr:`patch_size`. An array, or anything with ``__array__`` or ``__dlpack__`` on the processor. A C-contiguous
            float32 array is copied once, into the backbone's memory.
        :param peft: folder of a LoRA adapter of Hugging Face's peft, added inside the blocks.
        :raises BackboneError: pixels that do not divide into patches, or an adapter that does not fit.

        >>> import numpy as np
        >>> embedding = Backbone.open("dinov2-small").embed(np.zeros((2, 3, 28, 42), np.float32))
        >>> embedding.class_tokens.shape, embedding.patch_tokens.shape
        ((2, 384), (2, 2, 3, 384))
        """
        import numpy as np

        if hasattr(pixels, "__dlpack__") and not isinstance(pixels, np.ndarray):
            pixels = np.from_dlpack(cast("Any", pixels))
        array = np.ascontiguousarray(pixels, dtype=np.float32)
        if array.ndim != 4 or array.shape[1] != 3:
            raise UsageError(f"pixels of shape {array.shape}, expected (S, 3, H, W)")
        return Embedding(*self._native.embed(array, peft))

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, precision={self.precision!r})"
