"""Sends DICOM files to an archive by STOW-RS and fetches them by WADO-RS: the bytes must be the same.

    python host/dicom/tests/outside/dicom_orthanc.py http://localhost:8042/dicom-web FILE…

The archive is one with DICOMweb and without a password, such as Debian's orthanc with orthanc-dicomweb. Needs pydicom.
"""

import pathlib
import sys
import urllib.request

import pydicom

BOUNDARY = b"anymc3d-boundary"


def main():
    root, *files = sys.argv[1:]
    for path in map(pathlib.Path, files):
        sent = path.read_bytes()
        data = pydicom.dcmread(path, stop_before_pixels=True)
        body = b"--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n" + sent + b"\r\n--" + BOUNDARY + b"--\r\n"
        request = urllib.request.Request(f"{root}/studies", data=body, headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}',
            "Accept": "application/dicom+json"})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200, answer.status
        url = (f"{root}/studies/{data.StudyInstanceUID}/series/{data.SeriesInstanceUID}"
               f"/instances/{data.SOPInstanceUID}")
        request = urllib.request.Request(url, headers={
            "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
        with urllib.request.urlopen(request) as answer:
            parts = answer.read()
        start = parts.index(b"\r\n\r\n") + 4
        returned = parts[start:start + len(sent)]
        assert returned == sent and parts[start + len(sent):].startswith(b"\r\n--"), f"{path}: other bytes"
        print(f"{path.name}: {len(sent)} bytes, returned byte for byte")


if __name__ == "__main__":
    main()
