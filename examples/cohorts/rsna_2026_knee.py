"""RSNA 2026 knee MRI: a study per case, a view per kind of series.

    python3 examples/cohorts/rsna_2026_knee.py FOLDER OUT --view NAME=WORDS … [--labels A,B]

The layout of 2026 could not be checked when this was written: it is taken to be that of RSNA's MRI competition of 2024. FOLDER then
holds train.csv (study_id, a column of 0 and 1 per finding), train_series_descriptions.csv (study_id, series_id, series_description)
and train_images/STUDY/SERIES/*.dcm. `--view sagittal=sag,pd` takes for the view `sagittal` of your plugin the first series whose
description has all these words; a study without one leaves that cell empty. OUT/table.csv: case, patient, image.VIEW, labels.
"""

import argparse
import os

import tables


def convert(folder, out, views, labels=None):
    series = {}
    for row in tables.read(os.path.join(folder, "train_series_descriptions.csv")):
        series.setdefault(row["study_id"], []).append((row["series_description"].lower(), row["series_id"]))
    rows = []
    for study in tables.read(os.path.join(folder, "train.csv")):
        name = study["study_id"]
        labels = labels or [key for key in study if key not in ("study_id", "patient_id")]
        row = {"case": name, "patient": study.get("patient_id") or name, **{label: study[label] for label in labels}}
        for view, words in views.items():
            found = [i for text, i in series.get(name, []) if all(word in text for word in words)]
            folders = [os.path.join(folder, "train_images", name, i) for i in found]
            row[f"image.{view}"] = next((f for f in folders if os.path.isdir(f)), None)
        if any(row[f"image.{view}"] for view in views):
            rows.append(row)
    tables.write(os.path.join(out, "table.csv"), ["case", "patient", *(f"image.{view}" for view in views), *(labels or [])], rows)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder")
    options.add_argument("out")
    options.add_argument("--view", action="append", required=True, type=lambda text: text.split("=", 1))
    options.add_argument("--labels", type=lambda text: text.split(","))
    given = options.parse_args()
    convert(given.folder, given.out, {name: words.lower().split(",") for name, words in given.view}, given.labels)
