# /// script
# dependencies = ["nibabel==5.4.2", "numpy==2.4.6", "pydicom==3.0.2", "highdicom==0.28.2", "scipy==1.17.1"]
# ///
"""Checks what `host run --dicom-out` wrote, with programs of others: pydicom, highdicom, nibabel, dciodvfy.

    host run --plugin lung_nodule --segmentation --out results --dicom-out STUDY
    python tests/outside/dicom_results.py results STUDY…

For each DIR/<case>/<plugin>: the report's numbers are those of result.json; each frame of heatmap and mask lies where
pydicom says that its source frame lies, and has there, in millimetres, the values of heatmap.nii.gz and
segmentation.nii.gz; patient and study are the source's. dciodvfy is skipped with a message where it is not installed.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import highdicom
import nibabel
import numpy as np
import pydicom
from scipy.ndimage import map_coordinates

STUDY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
         "AccessionNumber", "StudyID")


def sources(folders):
    """{SOPInstanceUID: header} of all DICOM files below the folders."""
    found = {}
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.is_file():
                try:
                    data = pydicom.dcmread(path, stop_before_pixels=True)
                except pydicom.errors.InvalidDicomError:
                    continue
                found[str(data.get("SOPInstanceUID") or data.file_meta.MediaStorageSOPInstanceUID)] = data
    return found


def plane(data, frame):
    """Position, row and column direction of a frame, and spacing between rows and columns."""
    if "PerFrameFunctionalGroupsSequence" not in data:
        orientation = np.array(data.ImageOrientationPatient, float)
        return np.array(data.ImagePositionPatient, float), orientation, np.array(data.PixelSpacing, float)
    groups = data.PerFrameFunctionalGroupsSequence[frame - 1]
    shared = data.SharedFunctionalGroupsSequence[0]

    def of(name):
        return (groups if name in groups else shared)[name].value[0]

    return (np.array(of("PlanePositionSequence").ImagePositionPatient, float),
            np.array(of("PlaneOrientationSequence").ImageOrientationPatient, float),
            np.array(of("PixelMeasuresSequence").PixelSpacing, float))


def in_mm(image, data, frame, order):
    """Samples a NIfTI image at the middle of each pixel of a DICOM frame, through millimetres alone."""
    position, orientation, spacing = plane(data, frame)
    rows, columns = np.mgrid[: data.Rows, : data.Columns]
    points = (position + columns[..., None] * spacing[1] * orientation[:3] + rows[..., None] * spacing[0] * orientation[3:])
    ras = points * [-1, -1, 1]
    inverse = np.linalg.inv(image.affine)
    index = ras @ inverse[:3, :3].T + inverse[:3, 3]
    return map_coordinates(image.get_fdata(dtype=np.float32), np.moveaxis(index, -1, 0), order=order, mode="nearest")


def check_frames(path, known, image, order, tolerance):
    """The largest deviation from the NIfTI image, over all frames."""
    data = pydicom.dcmread(path)
    pixels = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    worst = 0.0
    for at, groups in enumerate(data.PerFrameFunctionalGroupsSequence):
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        source = known[reference.ReferencedSOPInstanceUID]
        number = int(reference.get("ReferencedFrameNumber", 1))
        position = plane(source, number)[0]
        ours = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        assert np.abs(ours - position).max() < 1e-4, (path, at, ours, position)
        if image is not None:
            expected = in_mm(image, source, number, order)
            worst = max(worst, float(np.abs(pixels[at] - expected).max()))
    assert worst <= tolerance, (path, worst, tolerance)
    assert len(pixels) == int(data.NumberOfFrames)
    return worst, pixels


def check_report(path, result, known):
    report = highdicom.sr.srread(path)
    assert isinstance(report, highdicom.sr.Comprehensive3DSR)
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == len(result["predictions"])
    for group, label in zip(groups, result["predictions"]):
        numbers = {m.name.value: m.value for m in group.get_measurements()}
        assert abs(numbers["122157"] - label["probability"]) < 1e-12, (numbers, label)
        assert numbers.get("122411") == label["threshold"], (numbers, label)
        assert group.finding_type.meaning == label["label"]
        decision = {q.name.value: q.value.meaning for q in group.get_qualitative_evaluations()}.get("DECISION")
        expected = None if label["threshold"] is None else "Present" if label["positive"] else "Absent"
        assert decision == expected, (decision, label)
        items = group[0].ContentSequence
        texts = [i.TextValue for i in items if i.ValueType == "TEXT"]
        assert f"weights sha256 {result['plugin']['weights_sha256']}" in texts, texts
        best = [i for i in items if i.ValueType == "IMAGE" and i.ConceptNameCodeSequence[0].CodeValue == "121080"]
        assert best and all(b.ReferencedSOPSequence[0].ReferencedSOPInstanceUID in known for b in best)
    return ", ".join(f"{p['label']} {p['probability']:.4f}" for p in result["predictions"])


def check_study(path, known):
    data = pydicom.dcmread(path, stop_before_pixels=True)
    # A source without a study has none to carry over.
    of = [s for s in known.values() if s.get("StudyInstanceUID") == data.StudyInstanceUID]
    source = (of or [s for s in known.values() if not s.get("StudyInstanceUID")])[0]
    for name in STUDY:
        if name == "StudyInstanceUID" and not source.get(name):
            continue
        assert str(data[name].value or "").strip() == str(source.get(name) or "").strip(), (path, name)
    assert data.SeriesDescription.startswith("Research only") and data.SOPInstanceUID.startswith("2.25.")
    return str(data.SOPInstanceUID), str(data.SeriesInstanceUID)


def dciodvfy(path):
    if shutil.which("dciodvfy") is None:
        return "dciodvfy is not installed (Debian: dicom3tools)"
    found = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")]
    assert not errors, (path, errors)
    return "dciodvfy 0 errors"


def check(folder, known):
    result = json.loads((folder / "result.json").read_text())
    told = [f"{folder.parent.name}/{folder.name}: sr {check_report(folder / 'dicom/sr.dcm', result, known)}"]
    image = nibabel.load(folder / "heatmap.nii.gz")
    most = float(np.abs(image.get_fdata()).max())
    for path in sorted((folder / "dicom").glob("heatmap*.dcm")):
        # heatmap.nii.gz has the first scan's heat, in 16-bit steps.
        first = path.name == "heatmap.dcm"
        straight = not any("resampled" in w for w in result["warnings"])
        tolerance = most * (1e-4 if straight else 0.2)
        worst, pixels = check_frames(path, known, image if first else None, 1, tolerance)
        assert np.isfinite(pixels).all() and pixels.max() > 0
        frames = highdicom.imread(path).get_frames(apply_real_world_transform=True)
        assert np.array_equal(frames, pixels)
        told.append(f"{path.name} {len(pixels)} frames, off {worst:.1e} of {most:.1e}")
    if (folder / "dicom/segmentation.dcm").exists():
        mask = nibabel.load(folder / "segmentation.nii.gz")
        _, pixels = check_frames(folder / "dicom/segmentation.dcm", known, mask if straight else None, 0, 0)
        highdicom.seg.segread(folder / "dicom/segmentation.dcm")
        told.append(f"segmentation.dcm {int(pixels.sum())} of {int(mask.get_fdata().sum())} voxels")
        assert not straight or int(pixels.sum()) == int(mask.get_fdata().sum())
    picture = pydicom.dcmread(folder / "dicom/preview.dcm")
    assert picture.pixel_array.shape == (picture.Rows, picture.Columns, 3) and picture.BurnedInAnnotation == "NO"
    uids = set()
    for path in sorted((folder / "dicom").glob("*.dcm")):
        uids.update(check_study(path, known))
        told.append(f"{path.name} {dciodvfy(path)}")
    assert len(uids) == 2 * len(list((folder / "dicom").glob("*.dcm")))
    print("; ".join(told))


def main():
    results, *studies = sys.argv[1:]
    known = sources(studies)
    folders = sorted(p.parent for p in pathlib.Path(results).glob("*/*/dicom"))
    assert folders, f"no dicom folder in {results}"
    for folder in folders:
        check(folder, known)


if __name__ == "__main__":
    main()
