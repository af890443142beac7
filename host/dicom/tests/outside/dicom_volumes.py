"""Compares volumes with the NIfTI that dcm2niix makes of the same folder, and with SimpleITK.

    cargo build --release -p anymc3d-dicom --example read_volume
    python host/dicom/tests/outside/dicom_volumes.py target/release/examples/read_volume DCM2NIIX FOLDER…

A volume is equal to a NIfTI (or to one of its time points) when each voxel centre of ours lies on a voxel centre of
theirs within 0.01 mm and the values agree within 1e-4. Straightened volumes are listed, not compared: dcm2niix shears
another way. Needs NumPy, nibabel and SimpleITK.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import nibabel
import numpy as np
import SimpleITK

from grids import on_grid


def nifti_volumes(dcm2niix, folder):
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([dcm2niix, "-z", "n", "-f", "%s_%p", "-o", out, folder], capture_output=True, check=False)
        for path in sorted(pathlib.Path(out).glob("*.nii")):
            image = nibabel.load(path)
            data = np.asarray(image.dataobj, np.float64)
            while data.ndim > 4:
                data = data[..., 0]
            for t in range(data.shape[3] if data.ndim == 4 else 1):
                yield f"{path.name} {t}", image.affine, data[..., t] if data.ndim == 4 else data


def difference(volume, affine, other, other_affine):
    """Largest distance of a centre to a centre in mm, and largest difference of values; None if the grids differ."""
    found = on_grid(volume, affine, other, other_affine)
    return found and (found[0], np.abs(other[found[1]] - volume.reshape(-1)).max())


def simple_itk(files):
    image = SimpleITK.ReadImage([str(f) for f in files])
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction, image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine, SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0).astype(float)


def main():
    reader, dcm2niix, folders = sys.argv[1], sys.argv[2], sys.argv[3:]
    failed = 0
    for folder in folders:
        theirs = list(nifti_volumes(dcm2niix, folder))
        with tempfile.TemporaryDirectory() as raw:
            out = subprocess.run([reader, folder, raw], capture_output=True, text=True, check=True).stdout
            for line in map(json.loads, out.splitlines()):
                name = f"{pathlib.Path(folder).name} {line['number']} '{line['label']}'"
                if "refused" in line:
                    print(f"{name}: refused, {line['refused']}")
                    continue
                dims = line["dims"]
                data = np.fromfile(f"{raw}/{line['number']}.f32", np.float32).reshape(dims[::-1]).transpose(2, 1, 0)
                affine = np.array(line["affine"])
                if any("resampled" in w for w in line["warnings"]):
                    print(f"{name}: straightened to {dims}, not compared")
                    continue
                pairs = [(n, difference(data.astype(float), affine, d, a)) for n, a, d in theirs]
                close = min((p for p in pairs if p[1]), key=lambda p: p[1][1], default=None)
                text = f"dcm2niix {close[0]}: {close[1][0]:.4f} mm, {close[1][1]:.2g}" if close else "no NIfTI on its grid"
                if len(set(line["files"])) == dims[2] > 1:
                    itk_affine, itk = simple_itk(line["files"])
                    found = difference(data.astype(float), affine, itk, itk_affine)
                    text += f"; SimpleITK: {found[0]:.4f} mm, {found[1]:.2g}" if found else "; SimpleITK: another grid"
                    failed += not found
                print(f"{name}: {dims} {text} {line['warnings']}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
