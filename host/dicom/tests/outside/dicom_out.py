# /// script
# dependencies = ["numpy==2.4.6", "pydicom==3.0.2", "highdicom==0.28.2"]
# ///
"""Checks what the writers write, with programs of others: dciodvfy (dicom3tools), pydicom and highdicom.

    cargo build --release -p anymc3d-dicom --example write_results
    python host/dicom/tests/outside/dicom_out.py target/release/examples/write_results FOLDER…

Each FOLDER holds a series. Positions are compared with those that pydicom reads from the source. dciodvfy is skipped
with a message where it is not installed; it does not know label maps (supplement 243).
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import highdicom
import numpy as np
import pydicom


def dciodvfy(path):
    """Errors of dicom3tools."""
    if shutil.which("dciodvfy") is None:
        print("SKIPPED: dciodvfy is not installed (Debian: dicom3tools)")
        return []
    found = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    lines = (found.stdout + found.stderr).splitlines()
    assert path.name == "labelmap.dcm" or any(not line.startswith(("Error", "Warning")) for line in lines), lines
    return [line for line in lines if line.startswith("Error")]


def source_positions(expected):
    """{(instance, frame): position} as pydicom reads them from the source's files."""
    positions, files = {}, {}
    for frame in expected["frames"]:
        if frame["file"] not in files:
            files[frame["file"]] = pydicom.dcmread(frame["file"], stop_before_pixels=True)
        data = files[frame["file"]]
        if "PerFrameFunctionalGroupsSequence" in data:
            groups = data.PerFrameFunctionalGroupsSequence[frame["frame"] - 1]
            position = groups.PlanePositionSequence[0].ImagePositionPatient
        else:
            position = data.ImagePositionPatient
        instance = data.get("SOPInstanceUID") or data.file_meta.MediaStorageSOPInstanceUID
        assert instance == frame["sop_instance"]
        positions[instance, frame["frame"]] = np.array(position, float)
    return positions, next(iter(files.values()))


def referenced(groups):
    source = groups.DerivationImageSequence[0].SourceImageSequence[0]
    return source.ReferencedSOPInstanceUID, int(source.get("ReferencedFrameNumber", 1))


def check_places(data, expected, positions):
    """Every frame lies where the source frame that it refers to lies; returns that frame's index for each."""
    index = {(f["sop_instance"], f["frame"]): i for i, f in enumerate(expected["frames"])}
    order = []
    for groups in data.PerFrameFunctionalGroupsSequence:
        key = referenced(groups)
        ours = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        assert np.abs(ours - positions[key]).max() < 1e-6, (key, ours, positions[key])
        order.append(index[key])
    return order


def check_map(folder, expected, positions):
    data = pydicom.dcmread(folder / "pm.dcm")
    order = check_places(data, expected, positions)
    columns, rows = expected["size"]
    heat = np.fromfile(folder / "heat.f32", "<f4").reshape(-1, rows, columns)
    assert np.array_equal(data.pixel_array.reshape(heat.shape), heat[order])
    frames = highdicom.imread(folder / "pm.dcm").get_frames(apply_real_world_transform=True)
    assert np.array_equal(frames, heat[order])
    return f"pm {len(order)} frames, {heat.min():g} to {heat.max():g}"


def check_masks(folder, expected, positions):
    columns, rows = expected["size"]
    labels = np.fromfile(folder / "labels.u8", "u1").reshape(-1, rows, columns)
    seg = highdicom.seg.segread(folder / "seg.dcm")
    order = check_places(seg, expected, positions)
    segments = [g.SegmentIdentificationSequence[0].ReferencedSegmentNumber for g in seg.PerFrameFunctionalGroupsSequence]
    pixels = seg.pixel_array.reshape(-1, rows, columns)
    for frame, at, segment in zip(pixels, order, segments):
        assert np.array_equal(frame, labels[at] == segment)
    kept = {(s, i) for s in (1, 2) for i in range(len(labels)) if (labels[i] == s).any()}
    assert kept == set(zip(segments, order)), "frames without a pixel are left out, no others"
    labelled = highdicom.seg.segread(folder / "labelmap.dcm")
    order = check_places(labelled, expected, positions)
    assert np.array_equal(labelled.pixel_array.reshape(-1, rows, columns), labels[order])
    assert list(seg.segment_numbers) == list(labelled.segment_numbers) == [1, 2]
    return f"seg {len(pixels)} of {2 * len(labels)} frames, {int(pixels.sum())} voxels"


def check_report(folder, expected):
    report = highdicom.sr.srread(folder / "sr.dcm")
    assert isinstance(report, highdicom.sr.Comprehensive3DSR)
    assert isinstance(report.content, highdicom.sr.MeasurementReport)
    assert [o.observer_type.meaning for o in report.content.get_observer_contexts()] == ["Device"]
    [group] = report.content.get_image_measurement_groups()
    numbers = {m.name.value: m.value for m in group.get_measurements()}
    assert numbers == {"122157": expected["probability"], "122411": expected["threshold"]}, numbers
    assert [m.unit.value for m in group.get_measurements()] == ["1", "1"]
    decision = {q.name.value: q.value.meaning for q in group.get_qualitative_evaluations()}
    assert decision["DECISION"] == "Present" and group.finding_type.value == "4147007"
    # highdicom names the nameless images of the library itself.
    best = highdicom.sr.utils.find_content_items(report, value_type="IMAGE", recursive=True)
    best = [b.ReferencedSOPSequence[0] for b in best if b.ConceptNameCodeSequence[0].CodeValue == "121080"]
    found = [(b.ReferencedSOPInstanceUID, int(b.get("ReferencedFrameNumber", 1))) for b in best]
    frames = [expected["frames"][i] for i in expected["telling"]]
    assert found == [(f["sop_instance"], f["frame"]) for f in frames]
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {e.ReferencedSOPInstanceUID for e in evidence} == {f["sop_instance"] for f in expected["frames"]}
    return f"sr probability {numbers['122157']:.6f}, best slices {expected['telling']}"


def check_pictures(folder):
    picture = np.fromfile(folder / "picture.rgb", "u1").reshape(33, 35, 3)
    assert np.array_equal(pydicom.dcmread(folder / "sc.dcm").pixel_array, picture)
    assert np.array_equal(pydicom.dcmread(folder / "sc_frames.dcm").pixel_array, np.stack([picture] * 2))
    return "sc 1 and 2 pictures"


def check_headers(folder, source):
    """Study-level attributes are the source's, UIDs are new."""
    seen = set()
    for path in sorted(folder.glob("*.dcm")):
        data = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"):
            assert str(data[name].value or "").strip() == str(source.get(name) or "").strip(), name
        if source.get("StudyInstanceUID"):
            assert data.StudyInstanceUID == source.StudyInstanceUID
        assert data.Manufacturer == "AnyMC3D" and data.SeriesDescription.startswith("Research only")
        uids = {str(data.SOPInstanceUID), str(data.SeriesInstanceUID)}
        assert all(u.startswith("2.25.") for u in uids) and not uids & seen
        seen |= uids


def main():
    program, *sources = sys.argv[1:]
    failed = False
    for source in sources:
        with tempfile.TemporaryDirectory() as out:
            folder = pathlib.Path(out)
            subprocess.run([program, source, out], check=True)
            expected = json.loads((folder / "expected.json").read_text())
            positions, header = source_positions(expected)
            told = [check_report(folder, expected), check_map(folder, expected, positions),
                    check_masks(folder, expected, positions), check_pictures(folder)]
            check_headers(folder, header)
            print(f"{pathlib.Path(source).name}: {'; '.join(told)}")
            for path in sorted(folder.glob("*.dcm")):
                if path.name == "labelmap.dcm":
                    continue
                errors = dciodvfy(path)
                failed |= bool(errors)
                print(f"  dciodvfy {path.name}: {len(errors)} errors", *errors, sep="\n    " if errors else "")
    sys.exit(failed)


if __name__ == "__main__":
    main()
