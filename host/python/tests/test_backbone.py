"""The backbone against transformers, and arrays that share memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anymc3d
import numpy as np
import pytest


def pixels(slices: int = 2, height: int = 112, width: int = 140) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(3).standard_normal((slices, 3, height, width)).astype(np.float32)


def model_folder() -> Path:
    return Path(anymc3d.__file__).parent / "backbones/dinov2-small"


def test_tokens_are_those_of_transformers(backbone: anymc3d.Backbone) -> None:
    torch: Any = pytest.importorskip("torch")
    transformers: Any = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(model_folder(), dtype=torch.float32).eval()
    given = pixels()
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(given)).last_hidden_state.numpy()
    found = backbone.embed(given)
    assert np.abs(found.class_tokens - expected[:, 0]).max() < 2e-4
    assert np.abs(found.patch_tokens.reshape(2, -1, 384) - expected[:, 1:]).max() < 2e-4
    assert found.class_attention.shape == (2, 8, 10)


def test_arrays_go_through_dlpack_both_ways(backbone: anymc3d.Backbone) -> None:
    torch: Any = pytest.importorskip("torch")
    given = torch.from_numpy(pixels(1))
    found = backbone.embed(given)
    assert np.array_equal(found.class_tokens, backbone.embed(pixels(1)).class_tokens)
    shared = torch.from_dlpack(found.class_tokens)
    shared[0, 0] = 7
    assert found.class_tokens[0, 0] == 7


def test_pixels_that_cannot_be_are_refused_with_what_was_expected(backbone: anymc3d.Backbone) -> None:
    with pytest.raises(anymc3d.BackboneError, match="multiples of 14"):
        backbone.embed(np.zeros((1, 3, 15, 28), np.float32))
    with pytest.raises(anymc3d.UsageError, match=r"expected \(S, 3, H, W\)"):
        backbone.embed(np.zeros((3, 28, 28), np.float32))
    with pytest.raises(anymc3d.UsageError, match="expected `auto`"):
        anymc3d.Backbone.open(precision="f16")


def test_hosts_share_a_backbone(backbone: anymc3d.Backbone) -> None:
    host = anymc3d.Host(backbone, plugins=["lung_nodule"])
    assert host.backbone().info == backbone.info
