#!/usr/bin/env bash
# pydicom 3.0.2 and SimpleITK 2.5.7 on an enhanced multi-frame MR image whose two frames have a rescale each
# (PixelValueTransformationSequence in the per-frame functional groups, PS3.3 C.7.6.16.2.9).
#
# Every stored value is 100; frame 1 has slope 2 and intercept 10, frame 2 slope 3 and intercept 20: 210 and 320.
# Seen: pydicom's apply_modality_lut gives 100 and 100, without a warning. SimpleITK gives 210 and 210.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet pydicom==3.0.2 numpy SimpleITK==2.5.7
venv/bin/python - <<'P'
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

image = Dataset()
image.file_meta = FileMetaDataset()
image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = EnhancedMRImageStorage
image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
image.Modality, image.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M", "NONE"]
image.Rows = image.Columns = 4
image.NumberOfFrames, image.SamplesPerPixel, image.PhotometricInterpretation = 2, 1, "MONOCHROME2"
image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
shared, measures, orientation = Dataset(), Dataset(), Dataset()
measures.PixelSpacing, measures.SliceThickness = [1, 1], 1
orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
image.SharedFunctionalGroupsSequence = [shared]
frames = []
for z, (slope, intercept) in enumerate([(2, 10), (3, 20)]):
    frame, position, rescale = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0, z]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, intercept, "US"
    frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [rescale]
    frames.append(frame)
image.PerFrameFunctionalGroupsSequence = frames
image.PixelData = np.full((2, 4, 4), 100, np.uint16).tobytes()
image.save_as("enhanced.dcm", enforce_file_format=True)

read = pydicom.dcmread("enhanced.dcm")
by_pydicom = apply_modality_lut(read.pixel_array, read)[:, 0, 0].tolist()
by_sitk = sitk.GetArrayFromImage(sitk.ReadImage("enhanced.dcm"))[:, 0, 0].tolist()
print("expected [210, 320]; pydicom", by_pydicom, "; SimpleITK", by_sitk)
assert by_pydicom == [100, 100] and by_sitk == [210, 210], "this has changed"
P
