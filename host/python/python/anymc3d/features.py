"""Cases as rows of numbers, for scikit-learn and pandas."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import UsageError
from .host import Host

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = ["features"]


def features(
    table: str | PathLike[str] | pd.DataFrame,
    *,
    plugin: str | PathLike[str] | None = None,
    host: Host | None = None,
    adapted: bool = True,
    cache: str | PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> pd.DataFrame:
    """A row of embeddings per case.

    The columns are ``VIEW.mean.I`` and ``VIEW.attention.I`` for I below d: the mean of the slices' class tokens, and their sum by
    the slice weights of the plugin's head. An optional view without a file is NaN. The index is the column ``case`` of the table.

    :param table: CSV or DataFrame with the columns case and image (or image.VIEW); optional mask. Paths of a CSV are relative to
        it, those of a DataFrame to the working folder.
    :param plugin: the plugin whose views are cut; its weights are needed.
    :param host: an open host instead, which may have one plugin.
    :param adapted: with the plugin's adapter inside the backbone; else the frozen backbone, for a probe without its labels.
    :param cache: folder for what was computed, a file per case, known again by the digests of scans, plugin, weights, backbone;
        by default ``cache/features`` in ``$ANYMC3D_HOME``; an empty string caches nothing.
    :param progress: called with the number of cases that are done, and of all.
    :raises ScanError: the first scan that cannot be used.
    """
    import numpy as np
    import pandas as pd

    if (plugin is None) == (host is None):
        raise UsageError("give a plugin or a host")
    opened = host if host is not None else Host(plugins=[cast("str", plugin)])
    name = opened.plugins[0]
    if len(opened.plugins) > 1:
        raise UsageError("features are of one plugin; give a host with one")
    frame, base = _read(table)
    folder = _cache_folder(cache)
    identity = "\n".join([*opened._native.identity(0), str(adapted)])
    described = opened.manifests[0]["view"]
    names = [str(view["name"]) for view in described]
    masked = any(view.get("region") == "mask" or view.get("mask_features") for view in described)
    width = opened.backbone(name).embed_dim
    rows = []
    for number, (_, row) in enumerate(frame.iterrows()):
        case = _case(row, names, base, masked)
        place = None if folder is None else folder / f"{_key(identity, case)}.npz"
        embedded = _cached(place)
        if embedded is None:
            found = opened.embed(**case, plugin=name, name=str(row["case"]), adapted=adapted)
            embedded = {}
            for view, (mean, attention) in found.items():
                embedded |= {f"{view}.mean": mean, f"{view}.attention": attention}
            _keep(place, embedded)
        missing = np.full(width, np.nan, np.float32)
        parts = [embedded.get(f"{view}.{pool}", missing) for view in names for pool in ("mean", "attention")]
        rows.append(np.concatenate(parts))
        if progress is not None:
            progress(number + 1, len(frame))
    columns = [f"{view}.{pool}.{i}" for view in names for pool in ("mean", "attention") for i in range(width)]
    index = pd.Index([str(c) for c in frame["case"]], name="case")
    embeddings: pd.DataFrame = pd.DataFrame(np.stack(rows), index=index, columns=columns)
    return embeddings


def _read(table: str | PathLike[str] | pd.DataFrame) -> tuple[pd.DataFrame, Path]:
    import pandas as pd

    if isinstance(table, (str, PathLike)):
        frame, base = pd.read_csv(table, dtype=str, keep_default_na=False), Path(table).parent
    else:
        frame, base = table, Path()
    has_image = any(str(c) == "image" or str(c).startswith("image.") for c in frame.columns)
    if "case" not in frame.columns or not has_image or len(frame) == 0:
        raise UsageError("a table without cases; expected rows with the columns case and image (or image.VIEW)")
    return frame, base


def _case(row: Any, views: list[str], base: Path, masked: bool) -> dict[str, Any]:
    """Paths of a row, as :meth:`Host.embed` takes them. A mask that only supervises training is left out."""

    def path(column: str) -> str | None:
        text = row.get(column)
        if not isinstance(text, (str, PathLike)) or not str(text).strip():
            return None
        return str(base / str(text))

    own = {view: found for view in views if (found := path(f"image.{view}")) is not None}
    return {"scan": path("image"), "views": own, "mask": path("mask") if masked else None}


def _key(identity: str, case: dict[str, Any]) -> str:
    digest = hashlib.sha256(identity.encode())
    paths = {"scan": case["scan"], "mask": case["mask"], **{f"view {v}": p for v, p in case["views"].items()}}
    for what, path in sorted(paths.items()):
        if path is None:
            continue
        files = sorted(p for p in Path(path).rglob("*") if p.is_file()) if Path(path).is_dir() else [Path(path)]
        for file in files:
            digest.update(f"\n{what} ".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _cache_folder(cache: str | PathLike[str] | None) -> Path | None:
    if cache is not None:
        return Path(cache) if str(cache) else None
    home = os.environ.get("ANYMC3D_HOME")
    if home:
        return Path(home) / "cache" / "features"
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "anymc3d" / "cache" / "features"


def _cached(place: Path | None) -> dict[str, npt.NDArray[np.float32]] | None:
    import numpy as np

    if place is None or not place.is_file():
        return None
    try:
        with np.load(place, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError):
        # Cut short by a full disk: computed again.
        return None


def _keep(place: Path | None, embedded: dict[str, npt.NDArray[np.float32]]) -> None:
    import numpy as np

    if place is None:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f"{place.name}.{os.getpid()}")
    with open(aside, "wb") as file:
        np.savez(file, allow_pickle=False, **embedded)
    os.replace(aside, place)
