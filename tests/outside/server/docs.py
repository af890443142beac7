"""Runs the commands of docs/server.md for integrators, as they stand there, against a server that is started as the page says.

    python docs.py HOST
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(ROOT / ".ci"))
from documented_commands import exam  # noqa: E402
from server import Server  # noqa: E402


def blocks(page):
    """(line number, text) of the page's blocks marked `sh`."""
    found, block, start = [], None, 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if block is not None and line == "```":
                found.append((start, "\n".join(block)))
                block = None
            elif line == "```sh":
                block, start = [], number + 1
            continue
        if block is not None:
            block.append(line)
    return found


def main():
    host = os.path.abspath(sys.argv[1])
    page = ROOT / "docs/server.md"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copy(ROOT / "examples/scans/chest_phantom.nii.gz", folder / "scan.nii.gz")
        exam(folder / "exam")
        os.chdir(ROOT)
        server = Server(host, ["--plugin", "target/release/liblung_nodule.so"], folder / "data")
        os.makedirs(folder / "bin")
        os.symlink(host, folder / "bin/host")
        environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        ran = 0
        for number, text in blocks(page):
            script = text.replace("localhost:8080", f"localhost:{server.port}")
            if script.lstrip().startswith("host serve --plugin"):
                continue  # It stands: this is the server.
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
            if done.returncode != 0:
                sys.exit(f"docs/server.md:{number}: exit code {done.returncode}\n{text}\n{done.stdout}")
            ran += 1
        assert server.stop() == 0
        print(f"{ran} blocks of docs/server.md ran as they stand there")


if __name__ == "__main__":
    main()
