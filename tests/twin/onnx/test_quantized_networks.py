"""Networks through ONNX Runtime's own quantizer: static QDQ, static QOperator, dynamic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from auditor.artifacts.onnx import OnnxArtifact
from auditor.twin.parity import check_parity
from tests.twin.onnx.exporting import SmallCnn, export, quiet
from tests.twin.onnx.graphs import native
from tests.twin.onnx.stepwise import stepwise


class Calibration:
    """Random images, one at a time."""

    def __init__(self, name: str, side: int, count: int = 8) -> None:
        random = np.random.default_rng(0)
        images = random.random((count, 1, 3, side, side)).astype(np.float32)
        self.left = iter([{name: image} for image in images])

    def get_next(self) -> Any:
        return next(self.left, None)


def quantized(folder: Path, module: nn.Module, side: int, how: str) -> tuple[Path, Path]:
    from onnxruntime import quantization as ortq

    path = export(module, torch.rand(2, 3, side, side), folder / "m.onnx", "legacy", 17)
    target = folder / f"{how}.onnx"
    with quiet():
        if how == "dynamic":
            ortq.quantize_dynamic(path, target)
        else:
            form = {"qdq": ortq.QuantFormat.QDQ, "qoperator": ortq.QuantFormat.QOperator}[how]
            ready = folder / "ready.onnx"
            ortq.quant_pre_process(path, ready)  # its own advice; without it biases get lost
            ortq.quantize_static(
                ready, target, Calibration("input", side), quant_format=form, per_channel=True
            )
    return path, target


def check(real: Path, path: Path, side: int) -> float:
    """Values against ONNX Runtime without its fusions; gradient beside the real network's."""
    artifact = OnnxArtifact(path)
    twin = artifact.open_twin()
    images = np.random.default_rng(1).random((4, 3, side, side)).astype(np.float32)
    theirs = native(onnx.load(path), images, optimised=False)[0]
    image = torch.from_numpy(images).requires_grad_()
    result = twin.run(image)
    error = float(np.abs(theirs - result.outputs[0].detach().numpy()).max() / np.abs(theirs).max())
    parity = check_parity(artifact.open_runtime(), twin, images)
    assert parity.agrees, parity
    (ours,) = torch.autograd.grad(result.logits[:, 1].sum(), image)
    exact = OnnxArtifact(real).open_twin()
    (smooth,) = torch.autograd.grad(exact.run(image).logits[:, 1].sum(), image)
    cosine = float(nn.functional.cosine_similarity(ours.flatten(), smooth.flatten(), 0))
    assert cosine > 0.5
    assert twin.without_gradient
    print(f"{path.stem}: error {error:.1e}, optimised {parity.max_rel:.1e}, cosine {cosine:.2f}")
    return error


@pytest.mark.parametrize("how", ["qdq", "qoperator", "dynamic"])
def test_small_network(tmp_path: Path, how: str) -> None:
    torch.manual_seed(0)
    real, path = quantized(tmp_path, SmallCnn().eval(), 16, how)
    assert check(real, path, 16) < 0.02
    check_operators(path, 16)


def check_operators(path: Path, side: int) -> None:
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    alone = stepwise(path, images)
    print(path.stem, alone)
    assert alone.worst < 1e-5
    assert alone.quantized > 0
    assert alone.wrong <= alone.quantized // 10_000  # ties, one step apart


@pytest.mark.slow
@pytest.mark.parametrize("how", ["qdq", "qoperator"])
def test_resnet18(tmp_path: Path, how: str) -> None:
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.resnet18().eval()
    real, path = quantized(tmp_path, module, 64, how)
    assert check(real, path, 64) < 0.02
    check_operators(path, 64)
