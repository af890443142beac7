"""Embeddings as a table, and their cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anymc3d
import numpy as np
import pytest

pandas: Any = pytest.importorskip("pandas")


def test_a_row_per_case_that_does_not_change_when_it_comes_from_the_cache(
    phantoms: Path, tmp_path: Path, backbone: anymc3d.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = anymc3d.Host(backbone, plugins=["lung_nodule"])
    table = pandas.read_csv(phantoms).head(2)
    table["image"] = [str(phantoms.parent / image) for image in table["image"]]
    cache = tmp_path / "cache"
    first = anymc3d.features(table, host=host, cache=cache)
    assert first.shape == (2, 2 * 384) and list(first.index) == list(table["case"])
    assert first.columns[0] == "axial.mean.0" and first.columns[384] == "axial.attention.0"
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(anymc3d.Host, "embed", lambda *_, **__: pytest.fail("computed again"))
    again = anymc3d.features(table, host=host, cache=cache)
    assert np.array_equal(first.to_numpy(), again.to_numpy())
    (next(cache.iterdir())).write_bytes(b"cut short")
    with pytest.raises(pytest.fail.Exception):
        anymc3d.features(table, host=host, cache=cache)


def test_the_mean_is_that_of_the_backbones_own_class_tokens(scan_path: Path, backbone: anymc3d.Backbone) -> None:
    host = anymc3d.Host(backbone, plugins=["lung_nodule"])
    table = pandas.DataFrame({"case": ["a"], "image": [str(scan_path)]})
    row = anymc3d.features(table, host=host, adapted=False, cache="").iloc[0].to_numpy()
    tokens = backbone.embed(host.pixels(scan_path)["axial"]).class_tokens
    assert np.abs(row[:384] - tokens.mean(0)).max() < 1e-5
    weights = np.array(host.run(scan_path).views[0].weights)
    assert np.abs(row[384:] - weights @ tokens).max() < 1e-4


def test_a_table_without_cases_is_refused() -> None:
    with pytest.raises(anymc3d.UsageError, match="columns case and image"):
        anymc3d.features(pandas.DataFrame({"case": ["a"]}), plugin="lung_nodule")
    with pytest.raises(anymc3d.UsageError, match="a plugin or a host"):
        anymc3d.features(pandas.DataFrame())
