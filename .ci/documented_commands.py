"""Every command of every page is run as it stands there, or named here with the reason why it is not.

    python3 .ci/documented_commands.py [RELEASE_FOLDER]

The commands run in a scratch folder that holds what a reader of the page would have: cases, tables, an exam, scores. The
standard library alone makes them. A command that no rule covers fails the run, so that a new page is run from its first day.
"""

import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release").resolve()

# Pages that another step of .ci/run takes its commands from.
ELSEWHERE = {
    "docs/ship_a_plugin.md": ".ci/ship_a_plugin",
    "docs/registry/publishers.md": "tests/registry/docs.sh",
    "docs/registry/hospitals.md": "tests/registry/docs.sh",
    "examples/third_party_plugin/README.md": "tests/tests/plugins, third_party",
    "host/cuda/README.md": "ANYMC3D_CI_GPU=1 .ci/run: NVIDIA's compiler",
    "host/python/README.md": "host/python/check.sh, in an environment that has the wheel",
    "docs/server.md": "tests/outside/server/check.sh, by a binary that has the feature",
    "examples/phantom_difficulty/README.md": "PyTorch and minutes of its time",
}

# What is not run here, by how it begins, and why.
NOT_RUN = {
    "pip install ./anymc3d": "host/python/check.sh, in an empty environment",
    "host/python/": "a build of the wheel; .ci/run has it",
    "cargo ": "a build or a test run; .ci/run has them",
    "python examples/bench/": "PyTorch",
    "export AWS_": "an account of the reader's; tests/outside/s3/check.sh",
    "host batch --plugin lung_nodule s3://": "a store of the reader's; tests/outside/s3/check.sh",
    "host merge s3://": "a store of the reader's; tests/outside/s3/check.sh",
    "ulimit -v": "an hour of damaged files; host/dicom/examples/fuzz.rs",
    "host bench ": "minutes of measuring; tests/tests/commands runs each measure once",
    "host train --plugin nodule_": "the cohort does not lie in this repository",
    "host train --plugin raptor": "the cohort is the reader's",
    "host backbone import": "the model is the reader's; tests/tests/commands, backbones",
    "host backbone verify siglip": "the model is the reader's; tests/tests/commands, backbones",
    "host backbone quantise": "a processor with VNNI, and a file beside the backbone; tests/tests/commands, backbones",
    "host backbone pull": "a server on the network; tests/tests/commands, backbones",
    "ANYMC3D_SEED=": "PyTorch",
    "ANYMC3D_FAMILIES=": "a test run; .ci/run has it",
    "host study examples/study/nodules": "the cohort does not lie in this repository",
    "host train --plugin mine": "the archive is the reader's",
    "host train --plugin adrenal_mass": "the archive is the reader's",
    "host benchmark SUITE": "the suite is the reader's",
    "host benchmark examples/benchmark/twelve": "the cohorts do not lie in this repository",
    "host benchmark examples/benchmark/ratings": "the cohort does not lie in this repository",
    "host embed --table cohorts/": "the cohorts do not lie in this repository",
    "python3 examples/cohorts/": "the cohorts are the reader's; examples/cohorts/test_cohorts.py",
    "host doctor --data cohort/table.csv": "the cohort is the reader's",
    "python3 examples/baselines/": "PyTorch and MONAI; tests/outside/baselines.sh",
    "python3 examples/nodules/": "the cohort does not lie in this repository",
    "host eval --plugin mine": "the archive is the reader's",
    "host weights reference": "twenty cases or more; tests/tests/commands/training.rs",
    "host serve --plugin lung_nodule --dicomweb": "the archive is the reader's; tests/outside/server/orthanc.sh",
    "host serve --plugin lung_nodule --rules": "the archive is the reader's; tests/outside/server/dimse.sh",
}

# A name that a reader replaces, or a size that would take an hour, and what stands for it here.
STAND_INS = [
    ("--count 300", "--count 6"),
    ("--count 60", "--count 9"),
    ("--count 100", "--count 4"),
    ("--plugin mine", "--plugin liver_injury"),
    ("libmine.so", "liblung_nodule.so"),
    ("scores.csv --columns", "others.csv --columns"),
    ("--out run1", "--out run1 --epochs 1 --augment none"),
]


def commands(page):
    """(line number, command) of a page's blocks that are marked `sh`, or not marked and begin with a program."""
    found, block, held = [], None, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            block = line.strip()[3:] if block is None else None
        elif block in ("", "sh") and (held or re.match(r"(host|cargo|python3?|pip) \S|host/python/|(\./)?target/", line)):
            held += re.sub(r"\s{2,}#.*$", "", line).rstrip()
            if held.endswith("\\"):
                held = held[:-1]
            else:
                found.append((number, held))
                held = ""
    return found


def dicom_slice(uids, number, z, spacing, rows):
    """An uncompressed CT slice: explicit little endian, 16 bit, axial."""
    def element(group, tag, vr, value):
        if isinstance(value, str):
            value = value.encode()
        value += (b" " if vr not in ("UI", "OW", "OB") else b"\0") * (len(value) % 2)
        length = struct.pack("<HI", 0, len(value)) if vr in ("OW", "OB") else struct.pack("<H", len(value))
        return struct.pack("<HH", group, tag) + vr.encode() + length + value

    def us(tag, value):
        return element(0x28, tag, "US", struct.pack("<H", value))

    sop, instance = "1.2.840.10008.5.1.4.1.1.2", f"{uids}.{number}"
    meta = element(2, 1, "OB", b"\0\1") + element(2, 2, "UI", sop) + element(2, 3, "UI", instance)
    meta += element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
    body = element(8, 8, "CS", "ORIGINAL\\PRIMARY\\AXIAL") + element(8, 0x16, "UI", sop) + element(8, 0x18, "UI", instance)
    body += element(8, 0x60, "CS", "CT") + element(0x10, 0x10, "PN", "Phantom") + element(0x10, 0x20, "LO", "P1")
    body += element(0x20, 0xD, "UI", uids + ".901") + element(0x20, 0xE, "UI", uids + ".902")
    body += element(0x20, 0x11, "IS", "4") + element(0x20, 0x13, "IS", str(number))
    body += element(0x20, 0x32, "DS", f"-150\\-150\\{z:.2f}") + element(0x20, 0x37, "DS", "1\\0\\0\\0\\1\\0")
    body += element(0x20, 0x52, "UI", uids + ".903") + us(2, 1) + element(0x28, 4, "CS", "MONOCHROME2")
    body += us(0x10, len(rows)) + us(0x11, len(rows[0])) + element(0x28, 0x30, "DS", f"{spacing:.4f}\\{spacing:.4f}")
    body += us(0x100, 16) + us(0x101, 16) + us(0x102, 15) + us(0x103, 1)
    body += element(0x28, 0x1052, "DS", "0") + element(0x28, 0x1053, "DS", "1")
    body += element(0x7FE0, 0x10, "OW", b"".join(struct.pack(f"<{len(r)}h", *r) for r in rows))
    return b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body


def exam(folder):
    """The sample scan's planes, every other voxel and plane, as a CT series."""
    raw = gzip.open(ROOT / "examples/scans/chest_phantom.nii.gz").read()
    nx, ny, nz = struct.unpack_from("<3h", raw, 42)
    spacing = struct.unpack_from("<f", raw, 80)[0]
    gap = struct.unpack_from("<f", raw, 88)[0]
    kind, offset = struct.unpack_from("<h", raw, 70)[0], int(struct.unpack_from("<f", raw, 108)[0])
    assert kind == 4, f"the sample scan is of type {kind}, and this reads int16"
    folder.mkdir()
    for k, z in enumerate(range(0, nz, 2)):
        plane = struct.unpack_from(f"<{nx * ny}h", raw, offset + 2 * z * nx * ny)
        # NIfTI's rows go to the front, DICOM's to the back.
        rows = [plane[y * nx:(y + 1) * nx:2] for y in reversed(range(0, ny, 2))]
        (folder / f"{k:03}").write_bytes(dicom_slice("1.2.826.0.1.3680043.8.498.1", k + 1, z * gap, 2 * spacing, rows))
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as z:
        for file in sorted(folder.iterdir()):
            z.write(file, f"exam/{file.name}")


def furnish(run):
    """What the pages speak of, in the current folder."""
    for name in ["examples", "plugins"]:
        os.symlink(ROOT / name, name)
    os.mkdir("target")
    os.symlink(RELEASE, "target/release")
    shutil.copy("target/release/liblung_nodule.so", "liblung_nodule.so")
    shutil.copy("examples/scans/chest_phantom.nii.gz", "scan.nii.gz")
    shutil.copy("examples/scans/chest_phantom_mask.nii.gz", "nodule.nii.gz")
    os.mkdir("scans")
    shutil.copy("scan.nii.gz", "scans/a.nii.gz")
    exam(Path("exam"))
    # A calibration needs ten cases of each class.
    for name, count in [("test", 4), ("val", 28)]:
        run(f"host phantom lung_nodule --count {count} --seed 5 --out {name}")
        header, *rows = Path(name, "table.csv").read_text().splitlines()
        rows = [",".join(f"{name}/{c}" if c.endswith(".nii.gz") else c for c in row.split(",")) for row in rows]
        Path(f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
        if name == "test":
            Path("table.csv").write_text("\n".join([header + ",split", *(f"{row},test" for row in rows)]) + "\n")
    shutil.copy("plugins/lung_nodule/lung_nodule.safetensors", "w.safetensors")
    for name, header in [("scores.csv", "case,nodule,p_nodule"), ("others.csv", "ID,y,p")]:
        Path(name).write_text(header + "\n" + "".join(f"c{i},{i % 2},{0.1 + 0.08 * (i * 7 % 11):.2f}\n" for i in range(10)))
    Path("truth.csv").write_text("case,nodule\n" + "".join(f"c{i},{i % 2}\n" for i in range(10)))
    for name, shift in [("a", 3), ("b", 5)]:
        os.mkdir(name)
        Path(name, "predictions.csv").write_text("case,nodule,p_nodule\n" + "".join(
            f"c{i},{i % 2},{0.1 + 0.08 * (i * shift % 11):.2f}\n" for i in range(10)))


def main():
    pages = sorted(p for pattern in ["*.md", "docs/**/*.md", "plugins/*/*.md", "host/*/*.md", "examples/**/*.md", "tests/*.md"]
                   for p in ROOT.glob(pattern) if p.name != "CHANGELOG.md")
    scratch = Path(tempfile.mkdtemp())
    os.chdir(scratch)
    environment = {**os.environ, "PATH": f"{RELEASE}:{os.environ['PATH']}", "ANYMC3D_HOME": str(scratch / "home")}

    def run(command, seconds=600):
        begin = time.monotonic()
        done = subprocess.run(["bash", "-c", command], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False)
        if done.returncode != 0:
            sys.exit(f"{command}\nexit code {done.returncode}\n{done.stdout}")
        return time.monotonic() - begin

    furnish(run)
    ran, left = 0, 0
    for page in pages:
        name = str(page.relative_to(ROOT))
        for number, command in commands(page):
            if name in ELSEWHERE or (command + " ").startswith(tuple(NOT_RUN)):
                left += 1
                continue
            said = command
            for word, instead in STAND_INS:
                command = command.replace(word, instead)
            if "--watch" in command:
                # It runs until it is ended: 124 is timeout's.
                command = f"timeout 10 {command} || [ $? = 124 ]"
            print(f"{name}:{number}: {said}", flush=True)
            took = run(command)
            print(f"    {took:.1f} s", flush=True)
            ran += 1
    print(f"{ran} commands of {len(pages)} pages ran here, {left} elsewhere or not, with a reason")
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
