"""A CT series of 300 slices of 512 x 512, folder to slices: `host run` beside pydicom, NumPy and pylibjpeg-openjpeg, in turn.

    python examples/bench/dicom_reading.py --host target/release/host

The series is written twice, uncompressed and as JPEG 2000 without loss. Each repetition runs every program in a process of its own,
start included. Of the host counts all but what its result calls backbone, head and the rest of the prediction. The peer reads the
folder, sorts by position, rescales to f32 and cuts as many slices of the same size (whole field of view, linear, antialiased): it finds
no region and makes no digest. Its variants decode on as many processes as the host has threads (`pool`), or only the frames that the
slices are made of (`needed`); the host's plugin looks for the lungs and so needs all frames.

On a machine that others use, compare the processor-seconds: of the host without those of a run on a small scan, which starts as well
and computes as many slices; of the peer without those of importing its modules.

`--plugin` may be any plugin of one CT view; `--report` adds a run that writes report.html. Needs numpy, pydicom, pylibjpeg,
pylibjpeg-openjpeg.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SLICES, EDGE = 300, 512


def planes():
    """Air, a body and two lungs that end, vessels, a reconstruction's circle; a scanner's noise, a little smoothed. HU, 12 bits."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1 : 1 : EDGE * 1j, -1 : 1 : EDGE * 1j]
    body = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    texture = 30 * np.sin(40 * x + 8 * np.sin(9 * y)) * np.cos(35 * y)
    for z in range(SLICES):
        size = np.clip(1.2 - abs(z - SLICES / 2) / (SLICES / 2) * 1.1, 0.05, 1)
        lungs = ((np.abs(x) - 0.35) / (0.25 * size)) ** 2 + (y / (0.4 * size)) ** 2 < 1
        vessels = lungs & (np.sin(50 * x + z / 9) * np.cos(45 * y - z / 7) > 0.9)
        plane = np.where(vessels, 20, np.where(lungs, -860, np.where(body, 40 + texture, -1000)))
        noise = rng.normal(0, 28, plane.shape)
        noise = (noise + 0.5 * (np.roll(noise, 1, 0) + np.roll(noise, 1, 1))) / 1.22
        hu = np.where(x**2 + y**2 < 1, plane + noise, -1024)
        yield (hu + 1024).round().clip(0, 4095).astype(np.uint16)


def write(folder, compressed):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

    folder.mkdir()
    study, series, size = generate_uid(), generate_uid(), 0
    for z, plane in enumerate(planes()):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = study, series, 1, z + 1
        ds.Modality, ds.PatientID, ds.PatientName = "CT", "bench", "bench"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-200, -200, 1.0 * z], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [0.8, 0.8], 1
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = EDGE, EDGE, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = plane.tobytes()
        ds["PixelData"].VR = "OW"
        if compressed:
            ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        path = folder / f"{(z * 7) % SLICES:03}.dcm"
        ds.save_as(path, enforce_file_format=True)
        size += path.stat().st_size
    return size


def weights(count, edge):
    """Rows of an antialiased linear resampling from `edge` samples to `count`."""
    scale = edge / count
    centres = scale * (np.arange(count) + 0.5)
    rows = np.maximum(0, 1 - np.abs(np.arange(edge) + 0.5 - centres[:, None]) / max(scale, 1))
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32)


def decoded(path):
    import pydicom

    ds = pydicom.dcmread(path)
    return ds.pixel_array.astype(np.float32) * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept)


def peer(folder, slices, size, variant, processes):
    import pydicom

    place = lambda path: float(pydicom.dcmread(path, specific_tags=["ImagePositionPatient"], stop_before_pixels=True).ImagePositionPatient[2])
    files = sorted(Path(folder).iterdir(), key=place)
    along = weights(slices, len(files))
    if variant == "needed":
        # As few as linear interpolation between neighbours takes.
        at = (np.arange(slices) + 0.5) * len(files) / slices - 0.5
        along = np.maximum(0, 1 - np.abs(np.arange(len(files)) - at[:, None])).astype(np.float32)
    used = [i for i in range(len(files)) if variant != "needed" or along[:, i].any()]
    if variant == "pool":
        from multiprocessing import Pool

        with Pool(processes) as pool:
            frames = pool.map(decoded, [files[i] for i in used], chunksize=8)
    else:
        frames = [decoded(files[i]) for i in used]
    volume = np.stack(frames)
    cut = np.tensordot(along[:, used], volume, 1)
    across = weights(size, EDGE)
    pixels = np.clip((across @ cut @ across.T + 1000) / 1400, 0, 1)
    assert pixels.shape == (slices, size, size)


# In a small process: a child's peak begins with what the process has that it was forked from.
CHILD = """
import os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], "wb"))
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
sys.exit(status != 0)
"""


def ran(command, out):
    """Seconds by the wall, seconds on the processors, most resident bytes."""
    child = [sys.executable, "-c", CHILD, str(out), *map(str, command)]
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    return np.array([float(v) for v in done.stdout.split()])


def quarters(values, digits=2):
    middle, low, high = np.percentile(values, [50, 25, 75])
    return f"{middle:.{digits}f} [{low:.{digits}f} {high:.{digits}f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="target/release/host")
    parser.add_argument("--plugin", default="lung_nodule")
    parser.add_argument("--slices", type=int, default=40, help="as the plugin's view has")
    parser.add_argument("--size", type=int, default=168, help="as the plugin's view has")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--report", action="store_true", help="time `host run --report` too")
    parser.add_argument("--small", default="examples/scans/chest_phantom.nii.gz", help="a scan that takes no time to read")
    parser.add_argument("--variants", default="plain,pool,needed", help="of the peer")
    parser.add_argument("--series", type=Path, help="folder where the series are kept from run to run")
    parser.add_argument("-n", "--repetitions", type=int, default=5)
    parser.add_argument("--peer", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        folder, slices, size, variant, processes = args.peer
        return peer(folder, int(slices), int(size), variant, int(processes))

    scratch = Path(tempfile.mkdtemp())
    series = args.series or scratch / "series"
    series.mkdir(parents=True, exist_ok=True)
    try:
        volume = SLICES * EDGE * EDGE * 4
        for name, compressed in (("uncompressed", False), ("JPEG 2000", True)):
            folder = series / name.replace(" ", "-")
            size = sum(f.stat().st_size for f in folder.iterdir()) if folder.is_dir() else write(folder, compressed)
            measure(args, name, folder, size, scratch, volume)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure(args, name, folder, size, scratch, volume):
    out = scratch / "out.json"

    def run(*options):
        return ran([args.host, "-q", "run", "--plugin", args.plugin, "--threads", args.threads, "--json", *options], out)

    def host(*options):
        measured = run(*options, folder)
        timing = json.loads(out.read_text().splitlines()[0])["timing_ms"]
        prediction = timing["total"] - timing["read"] - timing["preprocess"]
        return measured - [prediction / 1e3, run(args.small)[1], 0]

    def other(variant):
        command = [sys.executable, __file__, "--peer", folder, args.slices, args.size, variant, args.threads]
        imports = [sys.executable, "-c", "import numpy, pydicom, openjpeg"]
        return ran(command, out) - [0, ran(imports, out)[1], 0]

    programs = {"host": host}
    if args.report:
        programs["host, report"] = lambda: host("--report", "--out", str(scratch / "results"))
    programs |= {f"pydicom, {v}": lambda v=v: other(v) for v in args.variants.split(",")}
    times = {program: [] for program in programs}
    for repetition in range(args.repetitions + 1):
        for program, work in programs.items():
            measured = work()
            if repetition:
                times[program].append(measured)
    print(f"\n{name}: {size / SLICES / 1e3:.0f} kB a slice, {args.repetitions} repetitions in turn, {args.threads} threads, "
          f"load {os.getloadavg()[0]:.1f}")
    print(f"{'':18}{'seconds':>22}{'times the host':>20}{'processor-s':>22}{'times the host':>20}{'peak / f32 voxels':>19}")
    ours = np.array(times["host"])
    for program, values in times.items():
        values = np.array(values)
        cells = [cell for i in (0, 1) for cell in (f"{quarters(values[:, i]):>22}", f"{quarters(values[:, i] / ours[:, i]):>20}")]
        print(f"{program:18}{''.join(cells)}{values[:, 2].max() / volume:19.2f}", flush=True)


if __name__ == "__main__":
    main()
