"""RSNA 2023 abdominal trauma detection (RATIC): series with injuries of bowel, liver, kidney and spleen, and extravasation.

    python3 examples/cohorts/rsna_2023_abdominal_trauma.py FOLDER OUT [--complete]

FOLDER is the competition's: train.csv (a row per patient), train_series_meta.csv and train_images/PATIENT/SERIES/*.dcm. Writes OUT/table.csv:
case (the series), patient, image (the folder of DICOM files, which the host reads), bowel, extravasation, liver, kidney, spleen, 1 where
there is an injury of any grade. `--complete` leaves out series whose organs are cut off. Labels are the patient's: split by patient.
"""

import argparse
import os

import tables


def convert(folder, out, complete=False):
    patients = {row["patient_id"]: row for row in tables.read(os.path.join(folder, "train.csv"))}
    rows = []
    for series in tables.read(os.path.join(folder, "train_series_meta.csv")):
        patient, name = series["patient_id"], series["series_id"]
        image = os.path.join(folder, "train_images", patient, name)
        if patient not in patients or not os.path.isdir(image) or complete and float(series.get("incomplete_organ") or 0) > 0:
            continue
        truth = patients[patient]
        row = {"case": f"{patient}-{name}", "patient": patient, "image": image}
        row.update({label: int(float(truth[f"{label}_injury"])) for label in ("bowel", "extravasation")})
        row.update({label: int(float(truth[f"{label}_low"]) + float(truth[f"{label}_high"]) > 0) for label in ("liver", "kidney", "spleen")})
        rows.append(row)
    tables.write(os.path.join(out, "table.csv"), ["case", "patient", "image", "bowel", "extravasation", "liver", "kidney", "spleen"], rows)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder")
    options.add_argument("out")
    options.add_argument("--complete", action="store_true")
    given = options.parse_args()
    convert(given.folder, given.out, given.complete)
