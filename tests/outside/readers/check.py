"""What `host run` writes, in the readers that others use: heatmap and segmentation open in nibabel and in SimpleITK
wherever the scan does, and lie on it.

    python check.py HOST SCAN

HOST is the program, SCAN a chest with sound forms that the plugin lung_nodule answers. The scan is stored again with
every kind of sform and qform that is met outside, answered, and the physical places of voxels are compared: of the
corners and of one inside, scan against heatmap and segmentation, within 0.1 mm in each reader. Where a reader refuses
the scan itself, nothing is asked of it. Exit 1, with a line for each fault.
"""

import itertools
import pathlib
import subprocess
import sys
import tempfile

import nibabel
import numpy as np
import SimpleITK

TOLERANCE_MM = 0.1
PLUGIN = "lung_nodule"


def sheared(affine, degrees):
    """The second axis leans towards the first."""
    out = affine.copy()
    out[:3, 1] += np.tan(np.radians(degrees)) * np.linalg.norm(affine[:3, 1]) * unit(affine[:3, 0])
    return out


def unit(v):
    return v / np.linalg.norm(v)


def turned(affine, degrees, moved):
    """About the superior axis, and moved (mm)."""
    a = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    out = turn @ affine
    out[:3, 3] += moved
    return out


def kinds(sound):
    """Name, sform, its code, qform, its code."""
    for degrees in (0.02, 0.05, 0.3, 5.0):
        yield f"sform sheared by {degrees} degrees, sound qform", sheared(sound, degrees), 1, sound, 1
    other = turned(sound, 12.0, [40.0, -25.0, 60.0])
    for scode, qcode in itertools.product(range(1, 5), repeat=2):
        yield f"sform code {scode} and qform code {qcode} apart", other, scode, sound, qcode
    oblique = turned(sound, -9.0, [0.0, 3.0, -7.0])
    mirrored = oblique @ np.diag([-1.0, 1.0, 1.0, 1.0])
    for code in range(1, 5):
        yield f"qform only, code {code}", None, 0, oblique, code
    yield "qform only, the other handedness", None, 0, mirrored, 1
    yield "sform only", oblique, 1, None, 0
    yield "sform only, sheared", sheared(oblique, 0.3), 1, None, 0
    yield "neither", None, 0, None, 0


def store(path, voxels, sform, scode, qform, qcode, zooms):
    image = nibabel.Nifti1Image(voxels, None)
    header = image.header
    header.set_zooms(zooms)
    header.set_xyzt_units("mm", "sec")
    if qform is not None:
        header.set_qform(qform, qcode, strip_shears=True)
    if sform is not None:
        header.set_sform(sform, scode)
    header["qform_code"], header["sform_code"] = qcode, scode
    nibabel.Nifti1Image(voxels, None, header).to_filename(path)
    stored = nibabel.load(path).header
    assert (int(stored["sform_code"]), int(stored["qform_code"])) == (scode, qcode), "nibabel changed the forms"


def by_nibabel(path, indices):
    image = nibabel.load(path)
    return nibabel.affines.apply_affine(image.affine, indices), np.asarray(image.dataobj, dtype=np.float64)


def by_itk(path, indices):
    image = SimpleITK.ReadImage(str(path))
    points = [image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index]) for index in indices]
    return np.array(points), SimpleITK.GetArrayFromImage(image).transpose().astype(np.float64)


READERS = {"nibabel": by_nibabel, "SimpleITK": by_itk}
FIELDS = ["pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"]
FIELDS += ["qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"]


def faults(scan, folder, shape):
    """What is wrong with what was written for a scan; and how many readers opened it."""
    corners = list(itertools.product(*[(0, n - 1) for n in shape])) + [[n // 3 for n in shape]]
    found, opened = [], 0
    voxels = {}
    for reader, read in READERS.items():
        try:
            places, _ = read(scan, corners)
        except RuntimeError:
            continue
        opened += 1
        for name in ("heatmap.nii.gz", "segmentation.nii.gz"):
            try:
                other, values = read(folder / name, corners)
            except RuntimeError as e:
                found.append(f"{reader} opens the scan and not {name}: {str(e).strip().splitlines()[-1]}")
                continue
            apart = np.linalg.norm(places - other, axis=1).max()
            if not apart <= TOLERANCE_MM:
                found.append(f"{reader}: {name} lies {apart:.2f} mm off")
            if values.shape != shape or not np.isfinite(values).all() or values.min() != 0:
                found.append(f"{reader}: {name}: shape {values.shape}, {values.min()} to {values.max()}")
            if name in voxels and not np.allclose(values, voxels[name], rtol=1e-6, atol=0):
                found.append(f"{name}: the readers find other values in it")
            voxels[name] = values
    header = nibabel.load(scan).header
    for name in ("heatmap.nii.gz", "segmentation.nii.gz"):
        image = nibabel.load(folder / name)
        written = image.header
        unlike = [f for f in FIELDS if not np.array_equal(header[f], written[f])]
        if unlike:
            found.append(f"{name}: {', '.join(unlike)} are not the scan's")
        # nibabel takes the scale out of the header that it hands out.
        scale = [float(image.dataobj.slope), float(image.dataobj.inter)]
        scale += [float(written["cal_min"]), float(written["cal_max"])]
        if not np.isfinite(scale).all() or scale[0] <= 0 or scale[1] != 0 or scale[2] != 0 or scale[3] <= 0:
            found.append(f"{name}: slope, intercept and window are {scale}")
    return found, opened


def main(host, scan):
    source = nibabel.load(scan)
    voxels, sound = np.asarray(source.dataobj).astype(np.int16), source.affine
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        cases = {}
        for i, (name, *forms) in enumerate(kinds(sound)):
            path = place / f"case{i:02}.nii.gz"
            store(path, voxels, *forms, source.header.get_zooms()[:3])
            cases[path] = name
        command = [host, "run", "--plugin", PLUGIN, "--segmentation", "--out", str(place / "out"), "--json"]
        run = subprocess.run(command + [str(p) for p in cases], stdout=subprocess.PIPE, text=True, check=False,
                             stderr=subprocess.PIPE)
        if run.returncode != 0:
            sys.exit(f"host run: exit code {run.returncode}\n{run.stderr}")
        for path, name in cases.items():
            folder = place / "out" / path.name.removesuffix(".nii.gz") / PLUGIN
            found, opened = faults(path, folder, voxels.shape)
            print(f"{name}: opened by {opened} of {len(READERS)}: {'; '.join(found) or 'both files lie on it'}")
            wrong += bool(found) or opened == 0
    if wrong:
        sys.exit(f"{wrong} of {len(cases)} kinds of header are wrong")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
