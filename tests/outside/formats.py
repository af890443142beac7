# /// script
# dependencies = ["nibabel==5.4.2", "numpy==2.4.6", "SimpleITK==2.5.7"]
# ///
"""Makes tests/fixtures/formats: a small oblique scan in each format, and `expected.json` with what SimpleITK reads.

    python tests/outside/formats.py tests/fixtures/formats

Places are in RAS mm. SimpleITK 2.5 does not read NIfTI-2: those files are as nibabel reads them. Analyze 7.5 says no sides: SimpleITK takes its axes to run to the left and to posterior; nibabel and
SPM, and the host with them, to the left and to anterior. For it, spacing and voxels are SimpleITK's and the affine is
nibabel's. NRRD's `space units` and MetaImage's `DistanceUnits` are not in these files: SimpleITK ignores them.
"""

import json
import pathlib
import struct
import sys

import nibabel
import numpy as np
import SimpleITK as sitk

SHAPE = (5, 4, 3)
SPACING = (1.5, 2.25, 3.125)
ORIGIN = (-31.5, 12.25, 101.5)


def rotation(degrees, axis):
    a = np.radians(degrees)
    m = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    m[[i, i, j, j], [i, j, i, j]] = np.cos(a), -np.sin(a), np.sin(a), np.cos(a)
    return m


# Oblique about two axes, first axis mirrored and second and third exchanged: no two errors cancel.
DIRECTION = rotation(17, 2) @ rotation(-9, 0) @ np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]], float)


def voxels(kind):
    """Distinct, both signs where the type has them."""
    low = -700 if np.issubdtype(kind, np.signedinteger) or np.issubdtype(kind, np.floating) else 3
    step = 25.25 if np.issubdtype(kind, np.floating) else 4 if np.dtype(kind).itemsize == 1 else 25
    values = (low if np.dtype(kind).itemsize > 1 else 0) + step * np.arange(np.prod(SHAPE))
    return values.astype(kind).reshape(SHAPE[::-1])


def image(kind):
    made = sitk.GetImageFromArray(voxels(kind))
    made.SetSpacing(SPACING)
    made.SetOrigin(ORIGIN)
    made.SetDirection(DIRECTION.flatten())
    return made


def read(path):
    """What SimpleITK reads: shape, affine to RAS, voxels in stored order."""
    found = sitk.ReadImage(str(path))
    steps = np.array(found.GetDirection()).reshape(3, 3) * np.array(found.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, found.GetOrigin()
    affine = np.diag([-1, -1, 1, 1]) @ affine
    values = sitk.GetArrayFromImage(found).astype(float).ravel()
    return {"shape": list(found.GetSize()), "affine": affine[:3].tolist(), "voxels": values.tolist()}


def nifti_2(path, big, pair):
    """By nibabel, with a slope of more digits than f32 has."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = DIRECTION * np.array(SPACING), ORIGIN
    affine = np.diag([-1, -1, 1, 1]) @ affine
    data = voxels(np.int16).transpose(2, 1, 0)
    kind = nibabel.Nifti2Pair if pair else nibabel.Nifti2Image
    header = kind.header_class(endianness=">" if big else "<")
    header.set_data_dtype(np.int16)
    made = kind(data, affine, header)
    made.set_sform(affine, 1)
    made.set_qform(affine, 1)
    made.header.set_slope_inter(1, 0)
    made.to_filename(path)


def analyze(path, big):
    order = ">" if big else "<"
    h = bytearray(348)
    struct.pack_into(order + "i", h, 0, 348)
    struct.pack_into(order + "i", h, 32, 16384)
    h[38] = ord("r")
    struct.pack_into(order + "8h", h, 40, 4, *SHAPE, 1, 0, 0, 0)
    struct.pack_into(order + "hh", h, 70, 4, 16)
    struct.pack_into(order + "8f", h, 76, 0, *SPACING, 0, 0, 0, 0)
    path.write_bytes(bytes(h))
    path.with_suffix(".img").write_bytes(voxels(np.int16).astype(order + "i2").tobytes())


def text(path, header, data):
    path.write_bytes(header.encode() + data)


def nrrd_without_space(path):
    header = ("NRRD0001\ntype: short\ndimension: 3\nsizes: 5 4 3\nspacings: 1.5 2.25 3.125\nencoding: raw\n"
              "endian: big\n\n")
    text(path, header, voxels(np.int16).astype(">i2").tobytes())


def nrrd_ras(path):
    """RAS, detached, two lines and six bytes to be skipped."""
    affine = np.diag([-1, -1, 1]) @ (DIRECTION * np.array(SPACING))
    origin = np.diag([-1, -1, 1]) @ np.array(ORIGIN)
    vector = lambda v: "(" + ",".join(repr(float(x)) for x in v) + ")"  # noqa: E731
    header = ("NRRD0004\n# a comment\ntype: unsigned short\ndimension: 3\nspace: right-anterior-superior\nsizes: 5 4 3\n"
              f"space directions: {' '.join(vector(affine[:, i]) for i in range(3))}\nkinds: domain domain domain\n"
              f"endian: little\nencoding: raw\nspace origin: {vector(origin)}\nkey:=free text\nline skip: 2\nbyte skip: 6\n"
              "data file: ras.raw\n")
    path.write_text(header)
    path.with_name("ras.raw").write_bytes(b"one\ntwo\n" + bytes(6) + voxels(np.uint16).astype("<u2").tobytes())


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    types = {"i8": np.int8, "u8": np.uint8, "i16": np.int16, "u16": np.uint16, "i32": np.int32, "u32": np.uint32,
             "i64": np.int64, "u64": np.uint64, "f32": np.float32, "f64": np.float64}
    expected = {}
    for name, kind in types.items():
        for extension, compressed in (("nrrd", False), ("mha", False)):
            path = folder / f"{name}.{extension}"
            sitk.WriteImage(image(kind), str(path), useCompression=compressed)
            expected[path.name] = read(path)
    for name in ("gzip.nrrd", "detached.nhdr", "zlib.mha", "detached.mhd"):
        path = folder / name
        sitk.WriteImage(image(np.int16), str(path), useCompression=name.split(".")[0] != "detached")
        expected[name] = read(path)
    sitk.WriteImage(image(np.int16), str(folder / "detached_zlib.mhd"), useCompression=True)
    expected["detached_zlib.mhd"] = read(folder / "detached_zlib.mhd")
    nrrd_without_space(folder / "no_space.nrrd")
    nrrd_ras(folder / "ras.nhdr")
    for name in ("no_space.nrrd", "ras.nhdr"):
        expected[name] = read(folder / name)
    for name, big, pair in (("little.nii", False, False), ("big.nii", True, False), ("gzip.nii.gz", False, False),
                            ("pair.hdr", False, True)):
        nifti_2(folder / name, big, pair)
        found = nibabel.load(folder / name)
        values = np.asarray(found.dataobj, float).ravel(order="F").tolist()
        expected[name] = {"shape": list(found.shape), "affine": found.affine[:3].tolist(), "voxels": values}
    for name, big in (("analyze.hdr", False), ("analyze_big.hdr", True)):
        analyze(folder / name, big)
        expected[name] = read(folder / name)
        ours = nibabel.load(folder / name).affine[:3]
        assert np.allclose(np.abs(ours[:, :3]), np.abs(np.array(expected[name]["affine"])[:, :3]))
        expected[name]["affine"] = ours.tolist()
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{len(expected)} files, {sum(p.stat().st_size for p in folder.iterdir())} bytes, SimpleITK "
          f"{sitk.Version_VersionString()}")


if __name__ == "__main__":
    main()
