"""The examples in the docstrings, as they stand there."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import anymc3d
import pytest

MODULES = ["anymc3d", *(f"anymc3d.{m.name}" for m in pkgutil.iter_modules(anymc3d.__path__) if not m.name.startswith("_"))]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name: str, doctest_folder: Path) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    found = [t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(found) >= 8
