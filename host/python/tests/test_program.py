"""The program that came with the wheel."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anymc3d


def test_the_program_finds_the_wheels_own_plugins_and_backbone(program: Callable[..., Any]) -> None:
    told = program("self-test", "--json")
    report = json.loads(told.stdout)
    assert told.returncode == 0 and report["works"], told.stdout + told.stderr
    inside = Path(anymc3d.__file__).parent
    assert report["plugins"] and all(Path(p["library"]).is_relative_to(inside) for p in report["plugins"])
    assert "lung_nodule" in anymc3d.plugins() and "dinov2-small" in anymc3d.backbones()


def test_manual_pages_and_completions_came_with_it() -> None:
    share = Path(sys.prefix) / "share"
    assert ".TH host-run 1" in (share / "man/man1/host-run.1").read_text()
    for script in ("bash-completion/completions/host", "zsh/site-functions/_host", "fish/vendor_completions.d/host.fish"):
        assert "self-test" in (share / script).read_text(), script


def test_exit_codes_are_the_programs_own(program: Callable[..., Any], tmp_path: Path) -> None:
    assert program("run", "--plugin", "lung_nodule").returncode == 2
    assert program("run", "--plugin", "nothing", tmp_path / "scan.nii.gz").returncode == 3
