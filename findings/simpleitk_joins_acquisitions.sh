#!/usr/bin/env bash
# SimpleITK 2.5.7 on one MR series of two time points: five positions, 4 mm apart, each acquired twice (AcquisitionNumber and
# TemporalPositionIdentifier 1 and 2), the usual layout of a dynamic study.
#
# Seen: GetGDCMSeriesIDs gives one series, and ImageSeriesReader one volume of ten slices, the second acquisition stacked
# behind the first, with a spacing of 16/9 mm (the first and the last position, divided by nine). It warns of
# "Non uniform sampling or missing slices"; it does not fail.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet pydicom==3.0.2 numpy SimpleITK==2.5.7
mkdir series
venv/bin/python - <<'P'
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

study, series, frame = generate_uid(), generate_uid(), generate_uid()
for time in range(2):
    for z in range(5):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.Modality, image.InstanceNumber = "MR", time * 5 + z + 1
        image.AcquisitionNumber = image.TemporalPositionIdentifier = time + 1
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 4 * z], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [1, 1], 4
        image.Rows = image.Columns = 8
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.PixelData = np.full((8, 8), 100 * (time + 1) + z, np.uint16).tobytes()
        image.save_as(f"series/{time}_{z}.dcm", enforce_file_format=True)

reader = sitk.ImageSeriesReader()
found = reader.GetGDCMSeriesIDs("series")
reader.SetFileNames(reader.GetGDCMSeriesFileNames("series", found[0]))
volume = reader.Execute()
values = sitk.GetArrayFromImage(volume)[:, 0, 0].tolist()
print(len(found), "series; size", volume.GetSize(), "spacing", volume.GetSpacing(), "values", values)
assert len(found) == 1 and volume.GetSize() == (8, 8, 10), "this has changed"
assert abs(volume.GetSpacing()[2] - 16 / 9) < 1e-6 and values[4:6] == [104, 200], "this has changed"
P
