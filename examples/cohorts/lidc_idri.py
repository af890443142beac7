"""LIDC-IDRI from its DICOM series and the readers' XML: scans, consensus masks and ratings of nodules.

    python3 examples/cohorts/lidc_idri.py FOLDER OUT [--readers 3] [--join MM]

FOLDER holds series (folders of .dcm files with the XML beside them), at any depth, as the TCIA client leaves them. Marks of
different readers within `--join` mm (10) are one nodule; those of `--readers` or more are kept. A voxel belongs to the mask where at
least half of a nodule's readers drew around it; inner exclusions are cut out. Writes OUT/table.csv with case, patient, image, mask,
readers and the mean of each rating (malignancy, calcification, texture, spiculation, lobulation, sphericity, margin, subtlety).
Needs numpy, nibabel and pydicom. Source: doi 10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0.
"""

import argparse
import glob
import os
import xml.etree.ElementTree as ET

import nibabel
import numpy as np
import tables

RATINGS = ["subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation", "spiculation", "texture", "malignancy"]


def plain(tree):
    """Without the namespaces, which differ between files."""
    for element in tree.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
    return tree


def within(shape, edge):
    """Voxels `[x, y]` inside an outline: those that a line to the right leaves an odd number of times."""
    x, y = np.indices(shape)
    inside = np.zeros(shape, bool)
    for (xa, ya), (xb, yb) in zip(edge, np.roll(edge, -1, axis=0)):
        crosses = (ya > y) != (yb > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (xb - xa) * (y - ya) / (yb - ya) + xa)
    return inside


def marks(xml, uids, shape):
    """Of every reader's outlined nodules: mask `[x, y, z]` and ratings. Marks of less than 3 mm have no ratings and are left."""
    found, at = [], {uid: z for z, uid in enumerate(uids)}
    for reader, session in enumerate(plain(ET.parse(xml).getroot()).iter("readingSession")):
        for nodule in session.iter("unblindedReadNodule"):
            ratings = nodule.find("characteristics")
            ratings = {} if ratings is None else {r.tag: float(r.text) for r in ratings if r.tag in RATINGS and r.text}
            if "malignancy" not in ratings:
                continue
            mask = np.zeros(shape, bool)
            for roi in nodule.iter("roi"):
                z = at.get((roi.findtext("imageSOP_UID") or "").strip())
                edge = [(float(e.findtext("xCoord")), float(e.findtext("yCoord"))) for e in roi.iter("edgeMap")]
                if z is None or not edge:
                    continue
                inside = within(shape[:2], np.array(edge))
                # The outline is the first voxel outside the nodule, by the readers' instructions.
                for x, y in edge:
                    inside[int(x), int(y)] = False
                mask[:, :, z] = mask[:, :, z] | inside if (roi.findtext("inclusion") or "TRUE").strip().upper() == "TRUE" else mask[:, :, z] & ~inside
            if mask.any():
                found.append((reader, mask, ratings))
    return found


def joined(found, affine, mm):
    """Marks of different readers whose centres are near each other, as one nodule each."""
    nodules = []
    for reader, mask, ratings in found:
        centre = (affine @ [*np.argwhere(mask).mean(0), 1.0])[:3]
        near = [n for n in nodules if reader not in n["readers"] and np.linalg.norm(np.mean(n["centres"], 0) - centre) <= mm]
        nodule = min(near, key=lambda n: np.linalg.norm(np.mean(n["centres"], 0) - centre)) if near else {"readers": [], "centres": [], "masks": [], "ratings": []}
        if not near:
            nodules.append(nodule)
        for key, value in [("readers", reader), ("centres", centre), ("masks", mask), ("ratings", ratings)]:
            nodule[key].append(value)
    return nodules


def convert(folder, out, readers=3, mm=10.0):
    rows = []
    for xml in sorted(glob.glob(os.path.join(folder, "**", "*.xml"), recursive=True)):
        series = os.path.dirname(xml)
        if not glob.glob(os.path.join(series, "*.dcm")):
            continue
        image, affine, uids, _ = tables.volume(series)
        parts = os.path.relpath(series, folder).split(os.sep)
        patient = next((part for part in parts if part.startswith("LIDC-IDRI-")), parts[0])
        name = f"{patient}-{os.path.splitext(os.path.basename(xml))[0]}"
        os.makedirs(os.path.join(out, "images"), exist_ok=True)
        os.makedirs(os.path.join(out, "masks"), exist_ok=True)
        scan = os.path.join(out, "images", name + ".nii.gz")
        kept = [n for n in joined(marks(xml, uids, image.shape), affine, mm) if len(n["readers"]) >= readers]
        if kept:
            nibabel.save(nibabel.Nifti1Image(image, affine), scan)
        for i, nodule in enumerate(kept, 1):
            mask = np.mean(nodule["masks"], 0) >= 0.5
            path = os.path.join(out, "masks", f"{name}-{i}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), affine), path)
            row = {"case": f"{name}-{i}", "patient": patient, "image": scan, "mask": path, "readers": len(nodule["readers"])}
            row.update({r: round(float(np.mean([n[r] for n in nodule["ratings"] if r in n])), 3) for r in RATINGS if any(r in n for n in nodule["ratings"])})
            rows.append(row)
    tables.write(os.path.join(out, "table.csv"), ["case", "patient", "image", "mask", "readers", *RATINGS], rows)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder")
    options.add_argument("out")
    options.add_argument("--readers", type=int, default=3)
    options.add_argument("--join", type=float, default=10.0)
    given = options.parse_args()
    convert(given.folder, given.out, given.readers, given.join)
