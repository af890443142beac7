"""What tests/outside/server/orthanc.sh and dimse.sh ask of DICOM and of an archive, by programs of others.

    python archive.py copies FOLDER OUT N      N copies of a series as studies of their own, with new UIDs
    python archive.py push URL FOLDER…         by STOW-RS
    python archive.py count URL                own objects of each study by modality, one line in all
    python archive.py check URL FOLDER…        results of these studies, once each, read with pydicom and highdicom
    python archive.py segmented URL FOLDER DATA    as check, of a study whose mask was asked for; DATA is the server's folder
    python archive.py files FOLDER             the same of files that were received
"""

import base64
import io
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request

import highdicom
import pydicom
from pydicom.uid import generate_uid

ACCOUNT = "Basic " + base64.b64encode(b"anymc3d:secret").decode()
# Report, heatmap, picture: Comprehensive 3D SR, Parametric Map, Secondary Capture.
EXPECTED = ["1.2.840.10008.5.1.4.1.1.30", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.34"]
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def ask(url, data=None, kind=None, accept="application/dicom+json"):
    request = urllib.request.Request(url, data=data, headers={"Accept": accept, "Authorization": ACCOUNT})
    if kind:
        request.add_header("Content-Type", kind)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers.get("Content-Type", ""), answer.read()


def listed(url):
    _, body = ask(url)
    return json.loads(body) if body else []


def value(item, tag):
    return (item.get(tag, {}).get("Value") or [None])[0]


def files(folder):
    return sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())


def copies(folder, out, number):
    for copy in range(int(number)):
        study, series, frame = generate_uid(), generate_uid(), generate_uid()
        to = pathlib.Path(out) / f"study{copy}"
        to.mkdir(parents=True)
        for at, path in enumerate(files(folder)):
            data = pydicom.dcmread(path)
            data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            # The series was anonymised too well: its class is in the meta group alone, and storescu wants it.
            data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID
            data.PatientName, data.PatientID = f"SECRET^NAME{copy}", f"SECRET-ID-{copy}"
            data.save_as(to / f"{at}.dcm")


def push(url, *folders):
    for folder in folders:
        body = b""
        for path in files(folder):
            body += b"--limit\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n"
        ask(f"{url}/studies", body + b"--limit--\r\n", 'multipart/related; type="application/dicom"; boundary=limit')


def own(url, study):
    """SOP class and UIDs of our objects in a study."""
    found = []
    for series in listed(f"{url}/studies/{study}/series?includefield=00080070"):
        if not str(value(series, "0008103E") or "").startswith("Research only"):
            continue
        uid = value(series, "0020000E")
        for instance in listed(f"{url}/studies/{study}/series/{uid}/instances"):
            found.append((value(instance, "00080016"), uid, value(instance, "00080018")))
    return found


def count(url):
    studies = [value(s, "0020000D") for s in listed(f"{url}/studies")]
    print(" ".join(str(len(own(url, study))) for study in studies))


def read_object(data):
    """One of our objects, by the library of others that knows its kind."""
    if data.SOPClassUID.startswith("1.2.840.10008.5.1.4.1.1.88."):
        report = highdicom.sr.Comprehensive3DSR.from_dataset(data)
        groups = report.content.get_image_measurement_groups()
        values = [m.value for group in groups for m in group.get_measurements() if m.name.value == "122157"]
        assert values and all(0 <= v <= 1 for v in values), values
        return f"report: probability {values[0]:.4f}"
    if data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.30":
        pixels = data.pixel_array
        assert pixels.max() > 0 and len(pixels) == int(data.NumberOfFrames), pixels.shape
        return f"heatmap: {pixels.shape}"
    if data.SOPClassUID == SEGMENTATION:
        mask = highdicom.seg.Segmentation.from_dataset(data)
        return f"mask: {mask.pixel_array.shape}, {int(mask.pixel_array.sum())} voxels of {mask.get_segment_description(1).segment_label}"
    picture = data.pixel_array
    assert picture.ndim == 3 and picture.shape[2] == 3, picture.shape
    return f"picture: {picture.shape}"


def fetch(url, study, series, instance):
    kind, body = ask(f"{url}/studies/{study}/series/{series}/instances/{instance}", accept=(
        'multipart/related; type="application/dicom"; transfer-syntax=*'))
    boundary = kind.split("boundary=")[1].split(";")[0].strip('"').encode()
    part = body.split(b"--" + boundary)[1].split(b"\r\n\r\n", 1)[1]
    return pydicom.dcmread(io.BytesIO(part.removesuffix(b"\r\n")))


def check_set(objects, source, said, expected=EXPECTED):
    assert sorted(o.SOPClassUID for o in objects) == expected, (said, [o.SOPClassUID.name for o in objects])
    for data in objects:
        assert (data.PatientName, data.PatientID) == (source.PatientName, source.PatientID)
        assert data.StudyInstanceUID == source.StudyInstanceUID
    print(f"{said}: " + "; ".join(read_object(data) for data in objects))


def check(url, *folders):
    for folder in folders:
        source = pydicom.dcmread(files(folder)[0], stop_before_pixels=True)
        study = source.StudyInstanceUID
        objects = [fetch(url, study, series, instance) for _, series, instance in own(url, study)]
        check_set(objects, source, pathlib.Path(folder).name)


def segmented(url, folder, data):
    """The mask as highdicom reads it has the voxels that the server's record counts, on the frames that it names."""
    source = [pydicom.dcmread(path, stop_before_pixels=True) for path in files(folder)]
    study = source[0].StudyInstanceUID
    objects = [fetch(url, study, series, instance) for _, series, instance in own(url, study)]
    check_set(objects, source[0], pathlib.Path(folder).name, sorted([*EXPECTED, SEGMENTATION]))
    mask = next(highdicom.seg.Segmentation.from_dataset(o) for o in objects if o.SOPClassUID == SEGMENTATION)
    records = [json.loads(path.read_text()) for path in pathlib.Path(data, "jobs").glob("*/results/*/*/result.json")]
    counted = [record["segmentation"]["voxels"] for record in records if record.get("segmentation")]
    voxels = int(mask.pixel_array.sum())
    assert counted == [voxels] and voxels > 0, (counted, voxels)
    known = {str(s.SOPInstanceUID) for s in source}
    named = {str(uid) for _, _, uid in mask.get_source_image_uids()}
    assert named and named <= known, (named - known)


def check_files(folder, *sources):
    by_study = {}
    for path in files(folder):
        data = pydicom.dcmread(path)
        by_study.setdefault(data.StudyInstanceUID, []).append(data)
    for of in sources:
        source = pydicom.dcmread(files(of)[0], stop_before_pixels=True)
        check_set(by_study.pop(source.StudyInstanceUID), source, pathlib.Path(of).name)
    assert not by_study, list(by_study)


def ready(url):
    for _ in range(150):
        try:
            listed(f"{url}/studies")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    sys.exit("the archive does not answer")


if __name__ == "__main__":
    commands = {"copies": copies, "push": push, "count": count, "check": check, "segmented": segmented, "files": check_files,
                "ready": ready}
    commands[sys.argv[1]](*sys.argv[2:])
