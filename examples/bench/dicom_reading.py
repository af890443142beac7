"""A CT series of 300 slices of 512 x 512, folder to slices: this host beside pydicom, NumPy and pylibjpeg-openjpeg, in turn.

    cargo build --release -p anymc3d-host --example cut_slices
    python examples/bench/dicom_reading.py --host target/release/host

The series is written twice, uncompressed and as JPEG 2000 without loss. Each repetition runs every program in a process of its own,
start included. There are two kinds of work, and each program is compared with its own kind:

- `slices`: read the folder, sort by position, rescale to f32, cut slices of the whole field of view (linear, antialiased). Of this host
  it is the example `cut_slices` with region full; it makes the series' SHA-256 as well, which its peers do not.
- `lungs`: as well find the lungs, cut the slices from their box, and make the SHA-256 of the files. Of this host it is `cut_slices`
  with region lungs, and `host run` of a plugin, of which counts all but what its result calls backbone, head and the rest of the
  prediction. The peer labels air slice by slice and what is enclosed in 3D by scipy.ndimage.

The peers' variants decode on threads or processes, as many as the host has (`threads`, `pool`), or only the frames that the slices are
made of (`needed`, of the whole field of view alone). All print the mean of their slices, which must agree.

On a machine that others use, compare the processor-seconds: of the peer without those of importing its modules, of `host run` without
those of a run on a small scan, which starts as well and computes as many slices.

`--headers` measures the header pass instead: 3,000 files with the elements of a scanner's CT and few pixels, the example `list_series` of
anymc3d-dicom beside a loop of pydicom.dcmread(stop_before_pixels=True) over the same files.

`--plugin` may be any plugin of one CT view; `--report` adds a run that writes report.html. Needs numpy, scipy, pydicom, pylibjpeg,
pylibjpeg-openjpeg.
"""

import argparse
import json
import os
import re
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


def write_headers(folder, count):
    """CT instances as a scanner writes them, about 120 elements, with sequences and private ones."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    study, reference = generate_uid(), generate_uid()
    series = [generate_uid() for _ in range(10)]
    for i in range(count):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series[i % 10], reference
        ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = i % 10 + 1, i // 10 + 1, 1
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
        for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate"):
            setattr(ds, name, "20200102")
        for name in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime", "InstanceCreationTime"):
            setattr(ds, name, "101112.131400")
        ds.Modality, ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "CT", "bench", "bench", "1"
        ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge, ds.PatientPosition = "bench", "bench", "O", "050Y", "HFS"
        ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName, ds.BodyPartExamined = "Thorax", "Thorax 1.0", "Thorax", "CHEST"
        ds.KVP, ds.ExposureTime, ds.XRayTubeCurrent, ds.Exposure, ds.ConvolutionKernel = 120, 500, 100, 50, ["I31f", "3"]
        ds.DataCollectionDiameter, ds.ReconstructionDiameter, ds.GantryDetectorTilt, ds.TableHeight = 500, 400, 0, 150
        ds.DistanceSourceToDetector, ds.DistanceSourceToPatient, ds.SpiralPitchFactor, ds.SliceLocation = 1040, 570, 1.2, i // 10
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-200, -200, i // 10], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.WindowCenter, ds.WindowWidth = [0.8, 0.8], 1, [40, -600], [400, 1200]
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
        ds.ReferencedImageSequence = ds.SourceImageSequence = ds.ReferencedStudySequence = [item]
        block = ds.private_block(0x0019, "BENCH 1.0", create=True)
        for element in range(48):
            block.add_new(element, "LO", f"value {element}")
        block.add_new(0xF0, "OB", bytes(4096))
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 16, 16, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept, ds.PixelData = 1, -1024, bytes(512)
        ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"{(i * 7) % count:04}.dcm", enforce_file_format=True)


def peer_headers(folder):
    import pydicom

    begin = time.perf_counter()
    series = {}
    for path in Path(folder).iterdir():
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        series.setdefault(ds.SeriesInstanceUID, []).append(list(ds.ImagePositionPatient))
    print(f"{sum(map(len, series.values()))} instances, headers in {time.perf_counter() - begin:.3f} s")


def measure_headers(args, scratch, count=3000):
    folder = scratch / "headers"
    write_headers(folder, count)
    programs = {
        "list_series": [args.headers, folder, "--headers"],
        "pydicom": [sys.executable, __file__, "--peer", folder, "0", "0", "headers", "1"],
    }
    times = {program: [] for program in programs}
    for repetition in range(args.repetitions + 1):
        for program, command in programs.items():
            subprocess.run([*map(str, command)], stdout=(out := open(scratch / "headers.txt", "w")), check=True)
            out.close()
            found = re.match(rf"{count} instances, headers in ([0-9.]+) s", (scratch / "headers.txt").read_text())
            if repetition:
                times[program].append(float(found.group(1)))
    ours, theirs = (np.array(times[program]) for program in programs)
    print(f"{count} headers, {args.repetitions} repetitions in turn, load {os.getloadavg()[0]:.1f}: this host {quarters(ours, 3)} s, "
          f"pydicom {quarters(theirs)} s, {quarters(theirs / ours, 1)} times")


def weights(count, edge):
    """Rows of an antialiased linear resampling from `edge` samples to `count`."""
    scale = edge / count
    centres = scale * (np.arange(count) + 0.5)
    rows = np.maximum(0, 1 - np.abs(np.arange(edge) + 0.5 - centres[:, None]) / max(scale, 1))
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32)


def decoded(path, digest=False):
    import hashlib
    import io

    import pydicom

    data = path.read_bytes()
    ds = pydicom.dcmread(io.BytesIO(data))
    values = ds.pixel_array.astype(np.float32)
    values *= np.float32(ds.RescaleSlope)
    values += np.float32(ds.RescaleIntercept)
    return values, hashlib.sha256(data).digest() if digest else None


def lungs(volume, spacing):
    """The box of air that no slice lets out at its sides, in pockets of the size of a lung, with 5 mm around it."""
    from scipy import ndimage

    air = volume < -500
    for plane in air:
        labels, count = ndimage.label(plane)
        enclosed = np.ones(count + 1, bool)
        enclosed[0] = False
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            enclosed[edge] = False
        plane[:] = enclosed[labels]
    labels, _ = ndimage.label(air)
    sizes = np.bincount(labels.ravel())[1:]
    boxes = [box for box, size in zip(ndimage.find_objects(labels), sizes) if size >= sizes.max() / 10]
    margins = np.ceil(5 / np.array(spacing)).astype(int)
    low = [max(min(box[axis].start for box in boxes) - m, 0) for axis, m in enumerate(margins)]
    high = [min(max(box[axis].stop for box in boxes) + m, volume.shape[axis]) for axis, m in enumerate(margins)]
    return [slice(a, b) for a, b in zip(low, high)]


def peer(folder, slices, size, variant, processes):
    import pydicom

    place = lambda path: float(pydicom.dcmread(path, specific_tags=["ImagePositionPatient"], stop_before_pixels=True).ImagePositionPatient[2])
    files = sorted(Path(folder).iterdir(), key=place)
    of_lungs = "lungs" in variant
    along = weights(slices, len(files))
    if "needed" in variant:
        # As few as linear interpolation between neighbours takes.
        at = (np.arange(slices) + 0.5) * len(files) / slices - 0.5
        along = np.maximum(0, 1 - np.abs(np.arange(len(files)) - at[:, None])).astype(np.float32)
    used = [i for i in range(len(files)) if "needed" not in variant or along[:, i].any()]
    work = [(files[i], of_lungs) for i in used]
    if "pool" in variant:
        from multiprocessing import Pool

        with Pool(processes) as pool:
            frames = pool.starmap(decoded, work, chunksize=8)
    elif "threads" in variant:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(processes) as pool:
            frames = list(pool.map(lambda arguments: decoded(*arguments), work))
    else:
        frames = [decoded(*arguments) for arguments in work]
    volume = np.stack([frame for frame, _ in frames])
    if of_lungs:
        import hashlib

        hashlib.sha256(b"".join(digest for _, digest in frames)).hexdigest()
        volume = volume[tuple(lungs(volume, (1, 0.8, 0.8)))]
        along, used = weights(slices, len(volume)), slice(None)
    cut = np.tensordot(along[:, used], volume, 1)
    rows, columns = (weights(size, n) for n in volume.shape[1:])
    pixels = np.clip((rows @ cut @ columns.T + 1000) / 1400, 0, 1)
    assert pixels.shape == (slices, size, size)
    print(f"mean {pixels.mean(dtype=float):.6f}")


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
    parser.add_argument("--cut", default="target/release/examples/cut_slices")
    parser.add_argument("--headers", metavar="LIST_SERIES", help="measure the header pass, of this program")
    parser.add_argument("--variants", default="slices,slices threads,slices pool,slices needed,lungs,lungs threads", help="of the peer")
    parser.add_argument("--series", type=Path, help="folder where the series are kept from run to run")
    parser.add_argument("-n", "--repetitions", type=int, default=5)
    parser.add_argument("--peer", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        folder, slices, size, variant, processes = args.peer
        if variant == "headers":
            return peer_headers(folder)
        return peer(folder, int(slices), int(size), variant, int(processes))

    scratch = Path(tempfile.mkdtemp())
    series = args.series or scratch / "series"
    series.mkdir(parents=True, exist_ok=True)
    try:
        if args.headers:
            return measure_headers(args, scratch)
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

    means = {}

    def told(kind, measured):
        means.setdefault(kind, []).append(float(re.search(r"mean ([0-9.]+)", out.read_text()).group(1)))
        return measured

    def cut(kind):
        command = [args.cut, folder, {"slices": "full"}.get(kind, kind), args.slices, args.size, args.threads]
        return told(kind, ran(command, out))

    def other(variant):
        command = [sys.executable, __file__, "--peer", folder, args.slices, args.size, variant, args.threads]
        imports = [sys.executable, "-c", "import numpy, pydicom, openjpeg"]
        kind = variant if "needed" in variant else variant.split()[0]
        return told(kind, ran(command, out) - [0, ran(imports, scratch / "imports.txt")[1], 0])

    programs = {}
    for kind in ("slices", "lungs"):
        programs[f"cut_slices, {kind}"] = lambda kind=kind: cut(kind)
        if kind == "lungs":
            programs["host run, lungs"] = host
            if args.report:
                programs["host run, lungs, report"] = lambda: host("--report", "--out", str(scratch / "results"))
        programs |= {f"pydicom, {v}": lambda v=v: other(v) for v in args.variants.split(",") if v.startswith(kind)}
    times = {program: [] for program in programs}
    for repetition in range(args.repetitions + 1):
        for program, work in programs.items():
            measured = work()
            if repetition:
                times[program].append(measured)
    print(f"\n{name}: {size / SLICES / 1e3:.0f} kB a slice, {args.repetitions} repetitions in turn, {args.threads} threads, "
          f"load {os.getloadavg()[0]:.1f}")
    for kind, found in means.items():
        assert max(found) - min(found) < 1e-4, f"{kind}: the slices' means are {sorted(set(found))}"
    print(f"{'':26}{'seconds':>22}{'times ours':>20}{'processor-s':>22}{'times ours':>20}{'peak / f32 voxels':>19}")
    for program, values in times.items():
        values, ours = (np.array(times[name]) for name in (program, f"cut_slices, {'lungs' if 'lungs' in program else 'slices'}"))
        cells = [cell for i in (0, 1) for cell in (f"{quarters(values[:, i]):>22}", f"{quarters(values[:, i] / ours[:, i]):>20}")]
        print(f"{program:26}{''.join(cells)}{values[:, 2].max() / volume:19.2f}", flush=True)


if __name__ == "__main__":
    main()
