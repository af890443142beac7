"""What the converters share: tables as `host train` and `host benchmark` read them, and series of DICOM files as volumes."""

import csv
import os


def write(path, columns, rows):
    """A table with these columns; paths below its folder become relative."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)

    def cell(name, value):
        if value is None:
            return ""
        if name.startswith(("image", "mask")) and value:
            return os.path.relpath(value, folder)
        return value

    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([cell(name, row.get(name)) for name in columns])
    print(f"{len(rows)} cases: {path}")


def read(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def volume(folder):
    """A CT series as HU `[x, y, z]` and its affine voxel → RAS mm, with the SOP instance UID and position of each plane."""
    import numpy as np
    import pydicom

    planes = [pydicom.dcmread(os.path.join(folder, name)) for name in sorted(os.listdir(folder)) if name.endswith(".dcm")]
    planes = [p for p in planes if getattr(p, "Modality", "") == "CT" and hasattr(p, "ImagePositionPatient")]
    if len(planes) < 2:
        raise SystemExit(f"{folder}: {len(planes)} CT planes, expected a series")
    across, down = (np.array(planes[0].ImageOrientationPatient, float)[i:i + 3] for i in (0, 3))
    normal = np.cross(across, down)
    planes.sort(key=lambda p: float(np.dot(np.array(p.ImagePositionPatient, float), normal)))
    where = np.array([p.ImagePositionPatient for p in planes], float)
    step = (where[-1] - where[0]) / (len(planes) - 1)
    rows, columns = map(float, planes[0].PixelSpacing)
    to_lps = np.eye(4)
    to_lps[:3, 0], to_lps[:3, 1], to_lps[:3, 2], to_lps[:3, 3] = across * columns, down * rows, step, where[0]
    values = [p.pixel_array.T * float(getattr(p, "RescaleSlope", 1)) + float(getattr(p, "RescaleIntercept", 0)) for p in planes]
    return np.stack(values, -1).astype(np.int16), np.diag([-1.0, -1, 1, 1]) @ to_lps, [p.SOPInstanceUID for p in planes], where
