"""Plugins on a backbone: scans in, results out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from typing import TYPE_CHECKING, Any

from . import _native
from .backbone import Backbone
from .errors import UsageError
from .result import Result
from .scans import Scan, name_of, source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Host"]


class Host:
    """A backbone and plugins, opened once for any number of cases. Any number of threads may call it at the same time.

    >>> host = Host(plugins=["lung_nodule", "liver_injury"])
    >>> host.plugins
    ['lung_nodule', 'liver_injury']
    """

    def __init__(
        self,
        backbone: Backbone | str | PathLike[str] | None = None,
        plugins: Sequence[str | PathLike[str]] = (),
        *,
        weights: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
        device: str = "auto",
        precision: str = "auto",
        segmentation: bool = False,
    ) -> None:
        """Opens plugins.

        :param backbone: an open backbone, which hosts may share, or its name or folder; without it each plugin's is the one
            that its weights were trained on.
        :param plugins: names of installed plugins (:func:`anymc3d.plugins`), or paths of libraries.
        :param weights: trained weights of the one plugin; several are an ensemble. Without it each plugin's own are found.
        :param device: ``cpu``, ``cuda:N`` or ``auto``; an open backbone has its own.
        :param precision: ``f32``, ``bf16``, ``int16``, ``int8`` or ``auto``; an open backbone has its own.
        :param segmentation: keep the plugins' segmentation decoders: :attr:`Result.mask`.
        :raises PluginError: when a plugin or its weights are refused.
        :raises BackboneError: when the backbone is refused.
        """
        if isinstance(plugins, (str, PathLike)):
            plugins = [plugins]
        if not plugins:
            raise UsageError("no plugin; give for example plugins=['lung_nodule']")
        paths = [weights] if isinstance(weights, (str, PathLike)) else list(weights)
        if paths and len(plugins) > 1:
            raise UsageError("weights belong to one plugin; open one host per plugin with weights")
        if isinstance(backbone, (str, PathLike)):
            backbone = Backbone.open(backbone, device=device, precision=precision)
        opened = None if backbone is None else backbone._native
        self._native = _native.Host.open([str(p) for p in plugins], opened, paths, device, precision, segmentation)
        self._manifests: list[dict[str, Any]] = [json.loads(m) for m in self._native.manifests()]

    @property
    def plugins(self) -> list[str]:
        """Names of the plugins, in the order of their results."""
        return [str(m["plugin"]["name"]) for m in self._manifests]

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """What the plugins say of themselves (``plugin.toml``)."""
        copy: list[dict[str, Any]] = json.loads(json.dumps(self._manifests))
        return copy

    def backbone(self, plugin: str | None = None) -> Backbone:
        """The backbone of a plugin, which further hosts may share."""
        return Backbone(self._native.backbone(self._index(plugin)))

    def run(
        self,
        scan: Scan | None = None,
        *,
        plugin: str | None = None,
        views: Mapping[str, Scan] | None = None,
        mask: Scan | None = None,
        point_mm: Sequence[float] | None = None,
        name: str | None = None,
        heatmap: bool = True,
    ) -> Result:
        """One plugin's result for a case.

        :param scan: path of a file or of a DICOM folder; ``(array, affine)`` with voxels ``[x, y, z]`` and voxel index → RAS mm;
            an image of nibabel or SimpleITK; a MetaTensor of MONAI; a list of pydicom's datasets. Intensities are those of the
            file: HU of a CT.
        :param plugin: which of the plugins; may be left out where there is one.
        :param views: a scan by view, for views that do not read ``scan``: sequences of an MRI.
        :param mask: where views with the region ``mask`` look: a scan on the same grid, 1 inside.
        :param point_mm: where views with the region ``point`` look, RAS mm ``[3]``.
        :param name: what the case is called.
        :param heatmap: keep what heatmap and picture are made of.
        :raises ScanError: when the scan cannot be used.
        :raises TaskError: when the plugin fails; a panic of its code is one.

        >>> result = Host(plugins=["lung_nodule"]).run("chest_phantom.nii.gz")
        >>> result.plugin, len(result.views[0].weights), result.predictions[0].positive
        ('lung_nodule', 40, True)
        """
        index = self._index(plugin)
        answer = self._answers([index], scan, views, mask, point_mm, name, heatmap)[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run_all(
        self,
        scan: Scan | None = None,
        *,
        views: Mapping[str, Scan] | None = None,
        mask: Scan | None = None,
        point_mm: Sequence[float] | None = None,
        name: str | None = None,
        heatmap: bool = True,
    ) -> dict[str, Result | BaseException]:
        """Every plugin's result for a case, by the plugin's name. Slices and frozen blocks that plugins have in common are
        computed once. A plugin that fails has its exception in the place of a result; the others still answer.

        The parameters are those of :meth:`run`.
        """
        asked = list(range(len(self._manifests)))
        answers = self._answers(asked, scan, views, mask, point_mm, name, heatmap)
        return dict(zip(self.plugins, answers, strict=True))

    def embed(
        self,
        scan: Scan | None = None,
        *,
        plugin: str | None = None,
        views: Mapping[str, Scan] | None = None,
        mask: Scan | None = None,
        point_mm: Sequence[float] | None = None,
        name: str | None = None,
        adapted: bool = True,
    ) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """A case as vectors: by view, the mean of the slices' class tokens ``[d]``, and their sum by the head's slice weights
        ``[d]`` (a head that tells no weights gives the mean twice).

        :param adapted: with the plugin's adapter inside the backbone; else the frozen backbone.
        """
        index = self._index(plugin)
        with ExitStack() as held:
            case = self._case(held, scan, views, mask, point_mm, name)
            found = self._native.embed_case(*case, index, adapted)
        return {view: (mean, attention) for view, mean, attention in found}

    def pixels(
        self,
        scan: Scan | None = None,
        *,
        plugin: str | None = None,
        views: Mapping[str, Scan] | None = None,
        mask: Scan | None = None,
        point_mm: Sequence[float] | None = None,
        name: str | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """What the backbone is given of a case: by view, normalised slices ``[S, 3, H, W]``, for training elsewhere on the very
        pixels that the plugin will see here.

        >>> Host(plugins=["lung_nodule"]).pixels("chest_phantom.nii.gz")["axial"].shape
        (40, 3, 168, 168)
        """
        index = self._index(plugin)
        with ExitStack() as held:
            found = self._native.pixels(*self._case(held, scan, views, mask, point_mm, name), index)
        return dict(found)

    def _index(self, plugin: str | None) -> int:
        names = self.plugins
        if plugin is None and len(names) == 1:
            return 0
        if plugin is None:
            raise UsageError(f"this host has several plugins: say which, plugin={names[0]!r}, or call run_all")
        if plugin not in names:
            raise UsageError(f"no plugin {plugin!r}; this host has {', '.join(names)}")
        return names.index(plugin)

    def _case(
        self,
        held: ExitStack,
        scan: Scan | None,
        views: Mapping[str, Scan] | None,
        mask: Scan | None,
        point_mm: Sequence[float] | None,
        name: str | None,
    ) -> tuple[
        str,
        _native.Source | None,
        dict[str, _native.Source],
        _native.Source | None,
        list[float] | None,
    ]:
        views = views or {}
        if scan is None and not views:
            raise UsageError("no scan; give one, or one by view")
        called = name or name_of(scan if scan is not None else next(iter(views.values()))) or "case"
        return (
            called,
            None if scan is None else held.enter_context(source(scan)),
            {view: held.enter_context(source(of_view)) for view, of_view in views.items()},
            None if mask is None else held.enter_context(source(mask)),
            None if point_mm is None else [float(v) for v in point_mm],
        )

    def _answers(
        self,
        plugins: list[int],
        scan: Scan | None,
        views: Mapping[str, Scan] | None,
        mask: Scan | None,
        point_mm: Sequence[float] | None,
        name: str | None,
        heatmap: bool,
    ) -> list[Result | BaseException]:
        with ExitStack() as held:
            case = self._case(held, scan, views, mask, point_mm, name)
            answers = self._native.run(*case, plugins, heatmap)
        return [a if isinstance(a, BaseException) else Result._of(a) for a in answers]

    def __repr__(self) -> str:
        return f"Host(plugins={self.plugins!r})"
