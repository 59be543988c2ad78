"""What torch's exporters write, by network and operator set: parity of values and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from auditor.artifacts.onnx import OnnxArtifact
from auditor.twin.parity import check_parity
from tests.twin.onnx.exporting import SmallCnn, SmallVit, capture, export

FURTHER = ["shufflenet_v2_x0_5", "squeezenet1_1", "densenet121", "inception_v3", "vgg11_bn"]
SIDES = {"inception_v3": 96, "vgg11_bn": 224}


def check(path: Path, module: nn.Module, side: int) -> str:
    """Compare one file with ONNX Runtime and its gradients with the module it came from."""
    artifact = OnnxArtifact(path)
    twin = artifact.open_twin()
    random = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, side, side, generator=random)
    parity = check_parity(artifact.open_runtime(), twin, images.numpy())
    assert parity.agrees, parity
    assert parity.max_abs > 0 or parity.same_class == 1
    images.requires_grad_()
    direction = torch.randn(twin.run(images[:1]).logits.shape[1], generator=random)
    (ours,) = torch.autograd.grad(twin.run(images).logits @ direction, images, torch.ones(2))
    (theirs,) = torch.autograd.grad(module(images) @ direction, images, torch.ones(2))
    error = float((ours - theirs).norm() / theirs.norm())
    assert error < 1e-2  # single units at a kink may flip; see the finite-difference tests
    assert twin.head is not None
    assert twin.head.weight
    assert twin.features
    return (
        f"opset {artifact.describe().version:>2}  parity {parity.max_rel:.1e}  gradient {error:.1e}"
    )


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("kind", [SmallCnn, SmallVit])
def test_legacy_exports(tmp_path: Path, kind: type[nn.Module], opset: int) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    path = export(module, torch.rand(2, 3, 16, 16), tmp_path / "m.onnx", "legacy", opset)
    check(path, module, 16)


@pytest.mark.parametrize("kind", [SmallCnn, SmallVit])
def test_current_exports_with_external_data(tmp_path: Path, kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    path = export(module, torch.rand(2, 3, 16, 16), tmp_path / "m.onnx", "dynamo", 20)
    check(path, module, 16)


def test_kept_batch_normalization(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = SmallCnn().eval()
    options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    path = export(module, torch.rand(2, 3, 16, 16), tmp_path / "m.onnx", "legacy", 13, **options)
    check(path, module, 16)
    twin = OnnxArtifact(path).open_twin()
    assert "norm" in {layer.kind for layer in twin.layers}


def network(name: str) -> tuple[nn.Module, int]:
    import torchvision

    torch.manual_seed(0)
    side = SIDES.get(name, 64)
    options: dict[str, Any] = {}
    if name.startswith("vit"):
        options["image_size"] = side
    if name == "inception_v3":
        options = {"init_weights": False, "aux_logits": False}
    module = torchvision.models.get_model(name, weights=None, **options).eval()
    if name.startswith("vit"):
        nn.init.normal_(module.heads.head.weight, std=0.1)  # torchvision starts it at zero
    return module, side


def table(name: str, folder: Path, opsets: tuple[int, ...], exporters: tuple[str, ...]) -> int:
    """Print a row per combination; returns how many could be exported (all of those passed)."""
    module, side = network(name)
    sample = torch.rand(2, 3, side, side)
    done = 0
    for exporter in exporters:
        source = capture(module, sample) if exporter == "dynamo" else module
        for opset in opsets:
            path = folder / f"{name}-{exporter}-{opset}.onnx"
            try:
                export(source, sample, path, exporter, opset)
            except Exception as error:  # the exporter's own limits are not ours
                reason = str(error).strip().splitlines()[0][:70]
                print(f"{name:20} {exporter:7} asked {opset}: not exportable ({reason})")
                continue
            print(f"{name:20} {exporter:7} asked {opset}: {check(path, module, side)}", flush=True)
            done += 1
            path.unlink()
    return done


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FURTHER)
def test_table_of_further_networks(name: str, tmp_path: Path) -> None:
    assert table(name, tmp_path, (17, 23), ("legacy", "dynamo")) >= 3


def test_mobilenet_by_the_legacy_exporter(tmp_path: Path) -> None:
    assert table("mobilenet_v3_small", tmp_path, (13, 20), ("legacy",)) == 2


def test_half_precision_file(tmp_path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    torch.manual_seed(0)
    module = SmallCnn().eval()
    path = export(module, torch.rand(2, 3, 16, 16), tmp_path / "m.onnx", "legacy", 17)
    half = tmp_path / "half.onnx"
    onnx.save(convert_float_to_float16(onnx.load(path)), half)
    artifact = OnnxArtifact(half)
    twin, runtime = artifact.open_twin(), artifact.open_runtime()
    assert runtime.input.dtype == "float16"
    parity = check_parity(runtime, twin, np.random.default_rng(0).random((4, 3, 16, 16)))
    assert parity.agrees
    assert parity.max_rel < 5e-3
    assert parity.tolerance > 1e-4
    assert all(p.dtype == torch.float32 for p in twin.parameters.values())
    image = torch.rand(2, 3, 16, 16, requires_grad=True)
    (ours,) = torch.autograd.grad(twin.run(image).logits[:, 1].sum(), image)
    (theirs,) = torch.autograd.grad(module(image)[:, 1].sum(), image)
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-2
