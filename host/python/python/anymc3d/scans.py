"""Scans as other packages have them: as a path, or as voxels with their map to millimetres."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from .errors import UsageError

if TYPE_CHECKING:
    from . import _native

__all__ = ["Scan"]

#: A path, ``(array, affine)``, or an object of nibabel, SimpleITK, MONAI or (a list) of pydicom.
Scan: TypeAlias = Any


@contextmanager
def source(scan: Scan) -> Iterator[_native.Source]:
    """The scan as the extension module takes it.

    ``(array, affine)``: voxels ``[x, y, z]`` and voxel index → RAS mm ``[4, 4]``, as nibabel has them. pydicom's datasets are
    written into a folder that only this user can read, and that is gone afterwards: the host reads them as it reads files.
    """
    if isinstance(scan, (str, PathLike)):
        yield scan
    elif isinstance(scan, tuple) and len(scan) == 2:
        yield _voxels(scan[0], scan[1])
    elif _is_metatensor(scan):
        yield _of_metatensor(scan)
    elif hasattr(scan, "get_fdata") and hasattr(scan, "affine"):
        yield _of_nibabel(scan)
    elif hasattr(scan, "GetDirection") and hasattr(scan, "GetSpacing"):
        yield _of_simpleitk(scan)
    elif isinstance(scan, Sequence) and len(scan) > 0 and all(hasattr(part, "SOPClassUID") for part in scan):
        with tempfile.TemporaryDirectory(prefix="anymc3d-") as folder:
            for number, dataset in enumerate(scan):
                _write_dicom(dataset, Path(folder) / f"{number:05}.dcm")
            yield folder
    else:
        raise UsageError(
            f"a scan of type {type(scan).__name__}; expected a path, (array, affine), an image of nibabel or SimpleITK, "
            "a MetaTensor of MONAI, or a list of pydicom's datasets"
        )


def name_of(scan: Scan) -> str | None:
    """What a case of this scan is called where it has a file: the file's stem, as on the command line."""
    if not isinstance(scan, (str, PathLike)):
        return None
    name = Path(scan).name
    for ending in (".nii.gz", ".img.gz", ".hdr.gz", ".nii", ".nrrd", ".mha", ".mhd", ".zip", ".dcm"):
        if name.lower().endswith(ending):
            return name[: -len(ending)] or "case"
    return name or "case"


def _voxels(array: Any, affine: Any) -> _native.Source:
    import numpy as np

    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    voxels = np.asfortranarray(array, dtype=np.float32)
    matrix = np.asarray(affine, dtype=np.float64)
    if voxels.ndim != 3:
        raise UsageError(f"voxels of shape {voxels.shape}, expected three axes")
    if matrix.shape != (4, 4):
        raise UsageError(f"an affine of shape {matrix.shape}, expected (4, 4): voxel index to RAS mm")
    return voxels, matrix.tolist()


def _of_nibabel(image: Any) -> _native.Source:
    import numpy as np

    # Scaled in double precision and rounded once, as the host reads the file.
    return _voxels(np.asarray(image.get_fdata(caching="unchanged", dtype=np.float64)), image.affine)


def _of_simpleitk(image: Any) -> _native.Source:
    import numpy as np
    import SimpleITK as sitk

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise UsageError(
            f"an image of {image.GetDimension()} axes with {image.GetNumberOfComponentsPerPixel()} values per voxel; "
            "expected three axes and one value"
        )
    # Index order z, y, x in NumPy; LPS mm in ITK.
    array = np.transpose(sitk.GetArrayViewFromImage(image), (2, 1, 0))
    to_ras = np.diag([-1.0, -1.0, 1.0])
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = to_ras @ direction @ np.diag(image.GetSpacing())
    affine[:3, 3] = to_ras @ np.array(image.GetOrigin())
    return _voxels(array, affine)


def _is_metatensor(scan: Any) -> bool:
    return hasattr(scan, "affine") and hasattr(scan, "meta") and hasattr(scan, "detach")


def _of_metatensor(tensor: Any) -> _native.Source:
    import numpy as np

    array = np.asarray(tensor.detach().cpu().numpy())
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise UsageError(f"a MetaTensor of shape {array.shape}, expected (x, y, z) or (1, x, y, z)")
    affine = np.asarray(tensor.affine.detach().cpu().numpy(), dtype=np.float64)
    if str(tensor.meta.get("space", "RAS")).upper().endswith("LPS"):
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return _voxels(array, affine)


def _write_dicom(dataset: Any, path: Path) -> None:
    import pydicom

    write = cast(Any, getattr(pydicom, "dcmwrite"))
    try:
        write(path, dataset, enforce_file_format=True)
    except TypeError:
        # pydicom 2.
        write(path, dataset, write_like_original=False)
