"""PyTorch to here and back: the same tokens, the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anymc3d
import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
peft: Any = pytest.importorskip("peft")
transformers: Any = pytest.importorskip("transformers")


def base_model() -> Any:
    folder = Path(anymc3d.__file__).parent / "backbones/dinov2-small"
    return transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)


def adapted(**options: Any) -> Any:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj"], **options)
    model = peft.get_peft_model(base_model(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.02)
    return model.eval()


def head(seed: int = 1) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {
        "query": torch.randn(384) * 0.05,
        "weight": torch.randn(1, 384) * 0.02,
        "bias": torch.tensor([0.1]),
        "evidence": torch.zeros(1),
        # This head reads the layer that its decoder trains.
        "segmentation.weight": torch.randn(384) * 0.02,
        "segmentation.bias": torch.zeros(1),
    }


def test_an_adapter_of_pytorch_gives_the_same_tokens_here(tmp_path: Path, backbone: anymc3d.Backbone) -> None:
    model = adapted()
    written = anymc3d.export(adapter=model, plugin="lung_nodule", head=head(), out=tmp_path / "w.safetensors", backbone=backbone)
    assert written.difference is not None and written.difference < 2e-4
    # By the weights that the plugin reads, too: back to peft, and into PyTorch again.
    folder = anymc3d.to_peft("lung_nodule", tmp_path / "back", weights=written.weights, backbone=backbone)[0]
    again = peft.PeftModel.from_pretrained(base_model(), folder).eval()
    pixels = torch.from_numpy(np.random.default_rng(5).standard_normal((2, 3, 112, 112)).astype(np.float32))
    with torch.no_grad():
        expected, found = (m(pixel_values=pixels).last_hidden_state for m in (model, again))
    assert (expected - found).abs().max() < 2e-4


def test_a_task_that_was_trained_here_gives_the_same_tokens_in_pytorch(tmp_path: Path, backbone: anymc3d.Backbone) -> None:
    folder, head_file = anymc3d.to_peft("lung_nodule", tmp_path / "peft", backbone=backbone)
    model = peft.PeftModel.from_pretrained(base_model(), folder).eval()
    pixels = np.random.default_rng(6).standard_normal((2, 3, 168, 168)).astype(np.float32)
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(pixels)).last_hidden_state.numpy()
    found = backbone.embed(pixels, peft=folder)
    assert np.abs(found.class_tokens - expected[:, 0]).max() < 2e-4
    assert np.abs(found.patch_tokens.reshape(2, -1, 384) - expected[:, 1:]).max() < 2e-4
    assert head_file.name == "head.safetensors" and head_file.is_file()


def test_weights_go_there_and_back_and_answer_the_same(tmp_path: Path, backbone: anymc3d.Backbone, scan_path: Path) -> None:
    folder, head_file = anymc3d.to_peft("lung_nodule", tmp_path / "peft", backbone=backbone)
    back = anymc3d.export(adapter=folder, plugin="lung_nodule", head=head_file, out=tmp_path / "w.safetensors", backbone=backbone)
    own = anymc3d.Host(backbone, plugins=["lung_nodule"]).run(scan_path)
    again = anymc3d.Host(backbone, plugins=["lung_nodule"], weights=back.weights).run(scan_path)
    assert again.predictions[0].logit == own.predictions[0].logit


def test_a_task_trained_in_pytorch_answers_the_same_here(
    tmp_path: Path, backbone: anymc3d.Backbone, fixture_plugin: Callable[[str], Path], scan_path: Path
) -> None:
    """A few steps on the sample scan's own slices. The head is the paper's: attention pooling, and a linear layer."""
    library = fixture_plugin("paper")
    model = adapted(layers_to_transform=[9, 10, 11])
    torch.manual_seed(2)
    parameters = {
        "query": torch.nn.Parameter(torch.randn(384) * 0.05),
        "head.weight": torch.nn.Parameter(torch.randn(1, 384) * 0.02),
        "head.bias": torch.nn.Parameter(torch.zeros(1)),
    }

    def logit(pixels: Any) -> Any:
        tokens = model(pixel_values=pixels).last_hidden_state[:, 0]
        weights = torch.softmax(tokens @ parameters["query"] / 384**0.5, 0)
        return (weights @ tokens) @ parameters["head.weight"].T + parameters["head.bias"]

    def written(name: str) -> anymc3d.Host:
        to = tmp_path / f"{name}.safetensors"
        anymc3d.export(adapter=model.eval(), plugin=library, head=parameters, out=to, backbone=backbone)
        return anymc3d.Host(backbone, plugins=[library], weights=to)

    before = written("before")
    pixels = torch.from_numpy(before.pixels(scan_path)["axial"])
    trained = [p for p in model.parameters() if p.requires_grad] + list(parameters.values())
    optimiser = torch.optim.AdamW(trained, 1e-3)
    for step in range(3):
        some = pixels[step::12]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit(some), torch.tensor([1.0]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        expected = float(logit(pixels))
    found = written("after").run(scan_path).predictions[0].logit
    assert found == pytest.approx(expected, abs=2e-4)
    assert abs(found - before.run(scan_path).predictions[0].logit) > 0.01


def test_what_does_not_fit_is_named(tmp_path: Path, backbone: anymc3d.Backbone) -> None:
    wrong = {**head(), "weight": torch.zeros(2, 384), "extra": torch.zeros(3)}
    del wrong["bias"]
    with pytest.raises(anymc3d.WeightsError) as raised:
        anymc3d.export(adapter=adapted(), plugin="lung_nodule", head=wrong, out=tmp_path / "w.safetensors", backbone=backbone)
    for part in ("`weight` is [2, 384], expected [1, 384]", "`extra` is no parameter", "`head.bias` [1] is missing"):
        assert part in str(raised.value)
    assert not (tmp_path / "w.safetensors").exists()
    other = peft.get_peft_model(base_model(), peft.LoraConfig(r=2, target_modules=["fc1"]))
    with pytest.raises(anymc3d.AnymcError, match="adapts what this host does not"):
        anymc3d.export(adapter=other, plugin="lung_nodule", out=tmp_path / "w.safetensors", backbone=backbone)


def test_an_adapter_without_a_head_is_a_start_and_no_task(
    tmp_path: Path, backbone: anymc3d.Backbone, phantoms: Path, scan_path: Path
) -> None:
    start = anymc3d.export(adapter=adapted(), plugin="lung_nodule", out=tmp_path / "s.safetensors", backbone=backbone)
    with pytest.raises(anymc3d.PluginError, match="is missing"):
        anymc3d.Host(backbone, plugins=["lung_nodule"], weights=start.weights)
    trained = anymc3d.train(
        "lung_nodule", phantoms, tmp_path / "run", backbone=backbone, start=start.weights, epochs=1, augment="none", draws=1
    )
    # Terms of q and v of rank 4 are one of rank 8 in the fused layer; the scale stays 2.
    variant = trained.record["options"]["variant"]
    assert (variant["rank"], variant["alpha"], variant["first_block"]) == (8, 16.0, 0)
