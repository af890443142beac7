"""Each CT and MR series as DICOM and as the NIfTI that dcm2niix makes of it: the same volume, the same slices, the same logit.

    pip install dcm2niix numpy nibabel            # 1.0.20260724 was used
    cargo build --release --workspace --example slices_of && cargo build --release -p anymc3d-dicom --example read_volume
    python tests/outside/dcm2niix/check.py target/release DCM2NIIX FOLDER…

FOLDER holds series; all folders below it are looked at. A volume is matched with the NIfTI (or the time point of one) on whose
voxel centres its own lie within 0.01 mm; slices and logits of both are then compared. What differs is told with what is known
of it. Exit code 1 where a matched series differs by more than 1e-4.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import nibabel
import numpy as np

BAR = 1e-4
ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "host/dicom/tests/outside"))
from grids import on_grid  # noqa: E402


def nifti_volumes(dcm2niix, folder, out):
    subprocess.run([dcm2niix, "-z", "n", "-f", "%s_%d", "-o", out, folder], capture_output=True, check=False)
    for path in sorted(pathlib.Path(out).glob("*.nii")):
        image = nibabel.load(path)
        data = np.asarray(image.dataobj)
        if data.dtype.names:
            continue
        data = data.reshape(data.shape[:3] + (-1,)) if data.ndim > 3 else data[..., None]
        for t in range(data.shape[3]):
            yield f"{path.name}{f' [{t}]' if data.shape[3] > 1 else ''}", image, data[..., t]


def scale(ours, theirs):
    """Slope and intercept with which ours are theirs, and what is left over, as a share of their range."""
    span = float(np.ptp(ours)) or 1.0
    slope = (theirs[ours.argmax()] - theirs[ours.argmin()]) / span
    intercept = theirs[ours.argmin()] - slope * ours.min()
    return slope, intercept, np.abs(slope * ours + intercept - theirs).max() / (float(np.ptp(theirs)) or 1.0)


def logit(host, path, series):
    call = [host, "run", "--plugin", "lung_nodule", str(path), "--json", "--quiet", "--heatmap=false"]
    ran = subprocess.run(call + (["--series", "@1"] if series else []), capture_output=True, text=True, cwd=ROOT)
    for line in ran.stdout.splitlines():
        predictions = json.loads(line).get("predictions")
        if predictions:
            return predictions[0]["logit"], ""
    return None, (ran.stderr.strip().splitlines() or ["no answer"])[0][-100:]


def cut(slices_of, paths, out):
    lines = subprocess.run([slices_of, out, *map(str, paths)], capture_output=True, text=True, check=True).stdout.splitlines()
    for n, line in enumerate(map(json.loads, lines)):
        pixels = None if "refused" in line else np.fromfile(f"{out}/{n}.f32", np.float32).reshape(line["shape"])
        yield line, pixels


def compare(built, dcm2niix, folder, root, rows):
    reader, slices_of, host = built / "examples/read_volume", built / "examples/slices_of", built / "host"
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for name in ("files", "nii", "raw", "cut"):
            (work / name).mkdir()
        # The folder's own files: series that lie below have a turn of their own.
        for file in folder.iterdir():
            if file.is_file():
                shutil.copy(file, work / "files")
        out = subprocess.run([reader, work / "files", work / "raw"], capture_output=True, text=True)
        lines = [json.loads(line) for line in out.stdout.splitlines()]
        if not lines:
            return
        theirs = list(nifti_volumes(dcm2niix, str(work / "files"), str(work / "nii")))
        for line in lines:
            row = {"series": f"{folder.relative_to(root)} {line['number']}{' ' + line['label'] if line['label'] else ''}"}
            rows.append(row)
            if "refused" in line:
                row["why"] = f"refused by us: {line['refused']}"
                continue
            dims = line["dims"]
            row["dims"] = "×".join(map(str, dims))
            data = np.fromfile(work / f"raw/{line['number']}.f32", np.float32).reshape(dims[::-1]).transpose(2, 1, 0)
            flat, pairs = data.reshape(-1).astype(float), []
            for n, image, d in theirs:
                if place := on_grid(data, np.array(line["affine"]), d, image.affine):
                    there = d[place[1]].astype(float)
                    pairs.append((n, image, d, place, min(np.abs(there - flat).max(), scale(flat, there)[2])))
            found = min(pairs, key=lambda p: p[4], default=None)
            if found is None:
                row["why"] = "; ".join(w for w in line["warnings"] if "resampled" in w) or (
                    f"no NIfTI on its grid (dcm2niix made {', '.join(n for n, *_ in theirs) or 'none'})")
                continue
            name, image, values, (off, index), _ = found
            there = values[index].astype(float)
            apart = np.abs(there - flat) > BAR
            row |= {"nifti": name, "mm": off, "values": np.abs(there - flat).max()}
            padding = any("padding pixels" in w for w in line["warnings"]) and (flat[apart] == flat.min()).all()
            if apart.any() and padding:
                row["why"] = (f"{apart.sum()} padding pixels, {np.unique(there[apart])} in the NIfTI and our lowest value, "
                              f"{flat.min():g}: slices and logit with that value in both")
                values = values.copy()
                values[tuple(axis[apart] for axis in index)] = flat.min()
            elif apart.any():
                slope, intercept, rest = scale(flat, there)
                row["why"] = f"theirs = {slope:.8g} × ours + {intercept:.6g} within {rest:.1g} of their range"
            alone = work / f"series{line['number']}"
            alone.mkdir()
            for file in set(line["files"]):
                shutil.copy(file, alone)
            stacks = sum(set(other.get("files", [])) & set(line["files"]) != set() for other in lines)
            if stacks > 1:
                row["why"] = "; ".join(filter(None, [row.get("why"), f"one of {stacks} stacks of the same files: volume compared"]))
                continue
            nifti = work / f"{line['number']}.nii"
            nibabel.save(nibabel.Nifti1Image(np.asarray(values), image.affine), nifti)
            (a, x), (b, y) = cut(slices_of, [alone, nifti], work / "cut")
            if x is None or y is None:
                row["why"] = f"slices refused: {a.get('refused') or b.get('refused')}"[:140]
                continue
            row["slices"] = np.abs(x - y).max() if x.shape == y.shape else np.inf
            one, why = logit(host, alone, True)
            two, other = logit(host, nifti, False)
            if one is None or two is None:
                row["why"] = f"no logit: {why or other}"
            else:
                row |= {"dicom": one, "nii": two}


def main():
    built, dcm2niix, roots = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], [pathlib.Path(p).resolve() for p in sys.argv[3:]]
    rows = []
    for root in roots:
        for folder in sorted({root, *(p for p in root.rglob("*") if p.is_dir())}):
            compare(built, dcm2niix, folder, root.parent, rows)
    print("| series | voxels | NIfTI | centres, mm | values | slices | logit DICOM | logit NIfTI | |")
    print("|---|---|---|---|---|---|---|---|---|")
    number = lambda row, key, form: f"{row[key]:{form}}" if key in row else ""
    worse = 0
    for row in rows:
        differs = max(row.get("slices", 0), abs(row.get("dicom", 0) - row.get("nii", 0))) > BAR
        worse += differs or "no logit" in row.get("why", "")
        print(f"| {row['series']} | {row.get('dims', '')} | {row.get('nifti', '')} | {number(row, 'mm', '.4f')} "
              f"| {number(row, 'values', '.2g')} | {number(row, 'slices', '.2g')} | {number(row, 'dicom', '.6f')} "
              f"| {number(row, 'nii', '.6f')} | {'DIFFERS ' if differs else ''}{row.get('why', '')} |")
    compared = [row for row in rows if "slices" in row]
    print(f"\n{len(rows)} stacks, {len(compared)} compared in slices and logits, {int(worse)} differ by more than {BAR} or have no logit")
    sys.exit(worse > 0)


if __name__ == "__main__":
    main()
