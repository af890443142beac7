"""Compares `read_all` with pydicom, file by file, and prints a table of what is read and what is refused.

    cargo build --release -p anymc3d-dicom --example read_all
    python host/dicom/tests/outside/dicom_values.py target/release/examples/read_all FOLDER…

Needs pydicom and NumPy; pylibjpeg or pyjpegls for the compressed syntaxes. Values are compared after the modality
transform, which for enhanced objects is applied here frame by frame, because pydicom does not. Exit code 1 on any
difference, or where pydicom reads an uncompressed, RLE, JPEG lossless or JPEG 2000 CT, MR or PT image that is refused
for another reason than ALLOWED.
"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut

MUST_READ = {
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
}
MODALITIES = {"CT", "MR", "PT"}
ALLOWED = {"colour", "no-pixel-data", "bad-rescale"}


def frame_rescale(ds, frame):
    """Slope and intercept of one frame of an enhanced object, or None."""
    for groups in (ds.get("PerFrameFunctionalGroupsSequence"), ds.get("SharedFunctionalGroupsSequence")):
        if groups:
            item = groups[frame] if len(groups) > 1 else groups[0]
            if "PixelValueTransformationSequence" in item:
                t = item.PixelValueTransformationSequence[0]
                return float(t.RescaleSlope), float(t.RescaleIntercept)
    return None


def expected(path):
    """(values as f64 [frames, rows, columns], modality, transfer syntax), or (None, modality, reason)."""
    try:
        ds = pydicom.dcmread(path, force=True)
        if "SOPClassUID" not in ds and "PixelData" not in ds:
            return None, "", "not DICOM"
        modality = ds.get("Modality", "")
        if not any(k in ds for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            return None, modality, "no pixel data"
        if "TransferSyntaxUID" not in ds.file_meta:
            implicit = ds.original_encoding[0]
            ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
        array = ds.pixel_array
        if ds.get("SamplesPerPixel", 1) != 1:
            return None, modality, "colour"
        frames = int(ds.get("NumberOfFrames", 1) or 1)
        array = array.reshape(frames, ds.Rows, ds.Columns)
        values = [frame_rescale(ds, f) for f in range(frames)]
        if any(values):
            array = np.stack([a.astype(np.float64) * v[0] + v[1] for a, v in zip(array, values)])
        else:
            array = apply_modality_lut(array, ds).astype(np.float64)
        return array, modality, str(ds.file_meta.TransferSyntaxUID)
    except Exception as error:  # whatever pydicom cannot read is not compared
        return None, "", f"{type(error).__name__}"


def main():
    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = 0
    reader, folders = sys.argv[1], sys.argv[2:]
    table, bad = collections.Counter(), []
    for folder in folders:
        with tempfile.TemporaryDirectory() as raw:
            out = subprocess.run([reader, "--raw", raw, folder], capture_output=True, text=True, check=True).stdout
            for line in out.splitlines():
                found = json.loads(line)
                path = pathlib.Path(found["file"])
                want, modality, syntax = expected(path)
                if "refused" in found:
                    outcome = found["refused"]
                    if want is not None and modality in MODALITIES and syntax in MUST_READ and outcome not in ALLOWED:
                        bad.append((str(path), outcome, found["why"]))
                elif want is None:
                    outcome = f"read; pydicom: {syntax}"
                    modality = found["modality"]
                else:
                    got = np.fromfile(f"{raw}/{found['number']}.f32", np.float32).reshape(found["dims"])
                    pathlib.Path(f"{raw}/{found['number']}.f32").unlink()
                    if got.shape != want.shape or not np.array_equal(got, want.astype(np.float32)):
                        outcome = "DIFFERENT"
                        off = np.abs(got - want).max() if got.shape == want.shape else "shape"
                        bad.append((str(path), outcome, f"{syntax} off by {off}"))
                    else:
                        outcome = "equal"
                table[modality or "-", outcome] += 1
                if "-v" in sys.argv or outcome != "equal":
                    print(f"{outcome:32} {modality:4} {syntax:24} {path.name}: {found.get('why', '')[:150]}", file=sys.stderr)
    print(f"{'modality':10} {'outcome':44} files")
    for (modality, outcome), n in sorted(table.items()):
        print(f"{modality:10} {outcome:44} {n:5}")
    for line in bad:
        print("FAILED", *line)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
