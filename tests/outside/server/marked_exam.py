"""A DICOM series whose patient and series have markup for names."""

import pathlib
import struct
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / ".ci"))
from documented_commands import exam  # noqa: E402

MARKED = "<img src=x onerror=\"window.hit=1\">"


def marked_exam(folder):
    """The sample scan as DICOM whose patient and series have markup for names, and a file that is no DICOM."""
    exam(folder)

    def element(group, tag, vr, text):
        value = text.encode() + b" " * (len(text) % 2)
        return struct.pack("<HH", group, tag) + vr.encode() + struct.pack("<H", len(value)) + value

    for file in folder.iterdir():
        raw = file.read_bytes()
        modality = element(8, 0x60, "CS", "CT")
        assert raw.count(modality) == 1
        raw = raw.replace(modality, modality + element(8, 0x103E, "LO", MARKED))
        name = element(0x10, 0x10, "PN", "Phantom")
        assert raw.count(name) == 1
        file.write_bytes(raw.replace(name, element(0x10, 0x10, "PN", f"Doe^{MARKED}")))
    packed = folder.with_suffix(".marked.zip")
    with zipfile.ZipFile(packed, "w") as z:
        for file in folder.iterdir():
            z.write(file, file.name)
    (folder / "notes.txt").write_text("no DICOM")
    return packed
