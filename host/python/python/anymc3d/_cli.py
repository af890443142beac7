"""The console script ``host``: hands the process over to the program in this package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn


def main() -> NoReturn:
    """Replaces this process by ``host`` with the same arguments; exit code, signals and pipes are the program's own."""
    program = Path(__file__).parent / "_host" / ("host.exe" if os.name == "nt" else "host")
    if not program.is_file():
        sys.exit(f"{program}: not there; this installation of anymc3d has no program, install it again")
    if not os.access(program, os.X_OK):
        program.chmod(0o755)
    if os.name == "nt":
        import subprocess

        sys.exit(subprocess.call([str(program), *sys.argv[1:]]))
    os.execv(program, ["host", *sys.argv[1:]])
