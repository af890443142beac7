"""What the tests share: the repository's sample scan, the installed program, a host that is opened once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anymc3d
import pytest

REPOSITORY = Path(os.environ.get("ANYMC3D_REPOSITORY", Path(__file__).parents[3]))


@pytest.fixture(scope="session")
def scan_path() -> Path:
    path = REPOSITORY / "examples/scans/chest_phantom.nii.gz"
    assert path.is_file(), f"{path}: set ANYMC3D_REPOSITORY to a checkout"
    return path


@pytest.fixture(scope="session")
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The console script that was installed with the module."""
    host = Path(sys.executable).parent / "host"
    assert host.is_file(), f"{host}: install the wheel into this environment"

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([host, *map(str, arguments)], capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def backbone() -> anymc3d.Backbone:
    return anymc3d.Backbone.open(precision="f32")


@pytest.fixture(scope="session")
def host(backbone: anymc3d.Backbone) -> anymc3d.Host:
    return anymc3d.Host(backbone, plugins=["lung_nodule", "liver_injury"])


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory, program: Callable[..., subprocess.CompletedProcess[str]]) -> Path:
    """A table of six synthetic chests."""
    folder = tmp_path_factory.mktemp("phantoms")
    made = program("phantom", "lung_nodule", "--count", 6, "--seed", 1, "--out", folder)
    assert made.returncode == 0, made.stderr
    return folder / "table.csv"


@pytest.fixture(scope="session")
def fixture_plugin() -> Callable[[str], Path]:
    """A plugin of tests/plugins, as `cargo build --release --workspace` leaves it."""
    folder = Path(os.environ.get("ANYMC3D_TEST_PLUGINS", REPOSITORY / "target/release"))

    def path(name: str) -> Path:
        library = folder / f"lib{name}.so"
        if not library.is_file():
            pytest.skip(f"{library} is not built")
        return library

    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No plugin or cache of this machine's user."""
    folder = tmp_path / "home"
    monkeypatch.setenv("ANYMC3D_HOME", str(folder))
    return folder


@pytest.fixture
def doctest_folder(tmp_path: Path, scan_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples of the docstrings run: a folder with the sample scan."""
    shutil.copy(scan_path, tmp_path / "chest_phantom.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path
