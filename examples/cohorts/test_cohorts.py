"""Each converter on a tiny made set of its cohort's layout.

    python3 -m unittest discover -s examples/cohorts [-v]

Needs what the converters need. With HOST, the path of the program, the tables are read by `host doctor` too.
"""

import csv
import os
import subprocess
import sys
import tempfile
import unittest

import nibabel
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)


def save(path, array, affine=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def rows(out):
    with open(os.path.join(out, "table.csv"), newline="") as file:
        return list(csv.DictReader(file))


def ct(folder, planes, instance="1.2.3", shape=(20, 24), spacing=0.8, gap=2.0):
    """A CT series: rows down the columns' direction, HU 10 z + 1 at column 5 of row 3."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    os.makedirs(folder, exist_ok=True)
    for z in range(planes):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = f"{instance}.{z + 1}"
        plane = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        plane.SOPClassUID, plane.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        plane.Modality, plane.SeriesInstanceUID, plane.StudyInstanceUID = "CT", instance, instance + ".0"
        plane.PatientID = "made"
        plane.ImagePositionPatient, plane.ImageOrientationPatient = [-10, -20, 100 + gap * z], [1, 0, 0, 0, 1, 0]
        plane.PixelSpacing, plane.Rows, plane.Columns = [spacing, spacing], *shape
        plane.SamplesPerPixel, plane.PhotometricInterpretation = 1, "MONOCHROME2"
        plane.BitsAllocated = plane.BitsStored = 16
        plane.HighBit, plane.PixelRepresentation, plane.RescaleSlope, plane.RescaleIntercept = 15, 0, 1, -1024
        pixels = np.full(shape, 1024 + 10 * z, np.uint16)
        pixels[3, 5] += 1
        plane.PixelData = pixels.tobytes()
        plane.save_as(os.path.join(folder, f"{planes - z:03}.dcm"), enforce_file_format=True)


class Converters(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = os.path.join(self.folder.name, "out")

    def path(self, *parts):
        return os.path.join(self.folder.name, *parts)

    def doctor(self, plugin, *labels):
        """What the host says of the table; nothing without a program."""
        host = os.environ.get("HOST")
        if host:
            call = [host, "doctor", "--data", os.path.join(self.out, "table.csv"), "--plugin", plugin]
            said = subprocess.run(call + [word for l in labels for word in ("--label", l)], capture_output=True, text=True, check=False)
            self.assertIn(said.returncode, (0, 1), said.stderr)
            self.assertNotIn("cannot be read", said.stdout + said.stderr)

    def test_medmnist_parts_and_directions(self):
        import medmnist3d

        images = np.zeros((3, 4, 5, 6), np.uint8)
        images[1, 3, 2, 1] = 200
        np.savez(self.path("m.npz"), train_images=images, train_labels=np.array([[0], [1], [2]]), val_images=images[:1], val_labels=np.array([[1]]))
        medmnist3d.convert(self.path("m.npz"), self.out, 2.0, ["liver", "kidney", "spleen"])
        found = rows(self.out)
        self.assertEqual([(r["split"], r["class"]) for r in found], [("train", "liver"), ("train", "kidney"), ("train", "spleen"), ("val", "kidney")])
        image = nibabel.load(os.path.join(self.out, found[1]["image"]))
        self.assertEqual((image.shape, np.argwhere(np.asarray(image.dataobj) == 200).tolist()), ((6, 5, 4), [[1, 2, 3]]))
        np.savez(self.path("two.npz"), test_images=images, test_labels=np.array([[0], [1], [1]]))
        medmnist3d.convert(self.path("two.npz"), self.out)
        self.assertEqual([r["label"] for r in rows(self.out)], ["0", "1", "1"])

    def test_lidc_marks_of_three_readers_are_a_nodule_with_a_consensus(self):
        import lidc_idri

        series = self.path("LIDC-IDRI-0001", "study", "series")
        ct(series, 6)

        def session(edges, malignancy, z=(2, 3)):
            edge = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in edges)
            rois = "".join(f"<roi><imageSOP_UID>1.2.3.{k + 1}</imageSOP_UID><inclusion>TRUE</inclusion>{edge}</roi>" for k in z)
            return (f"<readingSession><unblindedReadNodule><characteristics><malignancy>{malignancy}</malignancy><texture>5</texture>"
                    f"</characteristics>{rois}</unblindedReadNodule><unblindedReadNodule>{rois}</unblindedReadNodule></readingSession>")

        def square(low, high):
            return [(x, low) for x in range(low, high + 1)] + [(high, y) for y in range(low, high + 1)] + \
                   [(x, high) for x in range(high, low - 1, -1)] + [(low, y) for y in range(high, low - 1, -1)]

        sessions = session(square(5, 11), 4) + session(square(5, 11), 5) + session(square(4, 12), 3) + session([(1, 1), (2, 1), (2, 2), (1, 2)], 1, (5,))
        write(os.path.join(series, "01.xml"), f'<LidcReadMessage xmlns="http://www.nih.gov">{sessions}</LidcReadMessage>')
        lidc_idri.convert(self.folder.name, self.out)
        [nodule] = rows(self.out)
        self.assertEqual((nodule["patient"], nodule["readers"], nodule["malignancy"], nodule["texture"]), ("LIDC-IDRI-0001", "3", "4.0", "5.0"))
        mask = nibabel.load(os.path.join(self.out, nodule["mask"]))
        inside = np.argwhere(np.asarray(mask.dataobj))
        # Outlines at 5 and 11 are outside: two of three readers agree on 6 to 10, in planes 2 and 3.
        self.assertEqual((inside.min(0).tolist(), inside.max(0).tolist(), len(inside)), ([6, 6, 2], [10, 10, 3], 50))
        image = nibabel.load(os.path.join(self.out, nodule["image"]))
        self.assertTrue(np.allclose(image.affine, mask.affine))
        self.assertEqual(np.asarray(image.dataobj)[5, 3, 4], 41)
        # LPS (-10, -20, 100) is RAS (10, 20, 100).
        self.assertEqual(nibabel.affines.apply_affine(image.affine, [0, 0, 0]).tolist(), [10.0, 20.0, 100.0])

    def test_ct_rate_gets_units_and_spacing_from_the_metadata(self):
        import ct_rate

        save(self.path("train", "train_7", "train_7_a", "train_7_a_1.nii.gz"), np.full((4, 5, 6), 3, np.int16), np.diag([-1.0, -1, 1, 1]))
        write(self.path("l.csv"), "VolumeName,Lung nodule,Medical material\ntrain_7_a_1.nii.gz,1,0\nabsent.nii.gz,0,0\n")
        write(self.path("m.csv"), 'VolumeName,RescaleSlope,RescaleIntercept,XYSpacing,ZSpacing\ntrain_7_a_1.nii.gz,2,-1024,"[0.5, 0.7]",1.5\n')
        ct_rate.convert(self.path("train"), self.path("l.csv"), self.path("m.csv"), self.out)
        [row] = rows(self.out)
        self.assertEqual((row["patient"], row["lung_nodule"], row["medical_material"]), ("train_7", "1", "0"))
        image = nibabel.load(os.path.join(self.out, row["image"]))
        self.assertEqual(np.unique(np.asarray(image.dataobj)).tolist(), [-1018])
        self.assertTrue(np.allclose(nibabel.affines.voxel_sizes(image.affine), [0.7, 0.5, 1.5]))
        self.assertEqual(nibabel.aff2axcodes(image.affine), ("L", "P", "S"))

    def test_rsna_2023_has_a_case_per_series_and_the_patients_labels(self):
        import rsna_2023_abdominal_trauma as trauma

        grades = "liver_healthy,liver_low,liver_high,kidney_healthy,kidney_low,kidney_high,spleen_healthy,spleen_low,spleen_high"
        write(self.path("train.csv"), f"patient_id,bowel_healthy,bowel_injury,extravasation_healthy,extravasation_injury,{grades}\n"
              "11,1,0,0,1,0,0,1,1,0,0,0,1,0\n12,0,1,1,0,1,0,0,1,0,0,1,0,0\n")
        write(self.path("train_series_meta.csv"), "patient_id,series_id,aortic_hu,incomplete_organ\n11,900,200,0\n11,901,90,1\n12,902,150,0\n12,903,150,0\n")
        for patient, series in [("11", "900"), ("11", "901"), ("12", "902")]:
            ct(self.path("train_images", patient, series), 4, "1.2." + series)
        trauma.convert(self.folder.name, self.out)
        found = [[r[k] for k in ("case", "patient", "bowel", "extravasation", "liver", "kidney", "spleen")] for r in rows(self.out)]
        self.assertEqual(found, [["11-900", "11", "0", "1", "1", "0", "1"], ["11-901", "11", "0", "1", "1", "0", "1"], ["12-902", "12", "1", "0", "0", "0", "0"]])
        self.assertTrue(os.path.isdir(os.path.join(self.out, rows(self.out)[0]["image"])))
        self.doctor("liver_injury", "injury=liver")
        trauma.convert(self.folder.name, self.out, complete=True)
        self.assertEqual([r["case"] for r in rows(self.out)], ["11-900", "12-902"])

    def test_rsna_2026_takes_a_series_per_view_by_its_words(self):
        import rsna_2026_knee as knee

        write(self.path("train.csv"), "study_id,acl_tear,effusion\n5,1,0\n6,0,1\n")
        write(self.path("train_series_descriptions.csv"), "study_id,series_id,series_description\n5,50,SAG PD FS\n5,51,COR T1\n6,60,COR T1\n")
        for study, series in [("5", "50"), ("5", "51"), ("6", "60")]:
            os.makedirs(self.path("train_images", study, series))
        knee.convert(self.folder.name, self.out, {"sagittal": ["sag", "pd"], "coronal": ["cor"]})
        first, second = rows(self.out)
        self.assertTrue(first["image.sagittal"].endswith(os.path.join("5", "50")) and first["image.coronal"].endswith(os.path.join("5", "51")))
        self.assertEqual((second["image.sagittal"], second["acl_tear"], second["effusion"]), ("", "0", "1"))

    def test_panorama_prefers_manual_labels_and_keeps_the_lesion(self):
        import panorama

        values = np.zeros((3, 3, 3), np.uint8)
        for name in ("100_1", "101_1", "102_1"):
            save(self.path("batch_1", name + "_0000.nii.gz"), values.astype(np.int16))
        save(self.path("labels", "automatic_labels", "100_1.nii.gz"), values + 4)
        values[1, 1, 1] = 1
        save(self.path("labels", "manual_labels", "100_1.nii.gz"), values)
        save(self.path("labels", "automatic_labels", "101_1.nii.gz"), np.full((3, 3, 3), 4, np.uint8))
        panorama.convert(self.path("batch_1"), self.path("labels"), self.out)
        self.assertEqual([(r["case"], r["patient"], r["pdac"]) for r in rows(self.out)], [("100_1", "100", "1"), ("101_1", "101", "0")])
        mask = np.asarray(nibabel.load(os.path.join(self.out, rows(self.out)[0]["mask"])).dataobj)
        self.assertEqual((mask.sum(), mask[1, 1, 1]), (1, 1))


if __name__ == "__main__":
    unittest.main()
