"""Published ONNX files: twin against ONNX Runtime, gradients against finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.artifacts.onnx import OnnxArtifact
from auditor.twin.onnx.network import OnnxTwin
from auditor.twin.parity import check_parity

FILES = [
    "onnx/wonnx_opt-mnist.onnx",
    "onnx/vnn21_Convnet_maxpool.onnx",
    "onnx/vnn21_mnist-net_256x2.onnx",
    "onnx/vnn21_cifar10_resnet_2b.onnx",
    "onnx/vnn21_marabou_cifar10_small.onnx",
    "onnx/vnn23_vit_cifar10_pgd_2_3_16.onnx",
    "onnx/gszj_fashionmnist.onnx",
    "onnx/zuramai_external_data/mnist.onnx",
    "onnx/makora_mnist_cnn.onnx",
    "onnx/vnn23_TinyYOLO.onnx",
    pytest.param("onnx/onnxlight_squeezenet.onnx", marks=pytest.mark.slow),
    pytest.param("onnx/onnxlight_resnet50.onnx", marks=pytest.mark.slow),
    "backdoored/mnist_verazuo_white5x5_t1.op13.onnx",
    "backdoored/cifar10_badnets_t8.op13.onnx",
]


def images(twin: OnnxTwin, count: int) -> torch.Tensor:
    assert twin.image_shape is not None
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(count, *twin.image_shape, generator=generator)
    noise[1::2] *= noise[1::2] > 0.85  # mostly black, like a digit
    return noise


@pytest.mark.parametrize("name", FILES)
def test_twin_agrees_with_the_runtime_and_with_finite_differences(shared: Path, name: str) -> None:
    artifact = OnnxArtifact(shared / "models" / name)
    twin = artifact.open_twin()
    assert isinstance(twin, OnnxTwin)
    parity = check_parity(artifact.open_runtime(), twin, images(twin, 3).numpy())
    assert parity.agrees, parity
    assert parity.tolerance == 1e-4
    exact = twin.to(torch.float64)
    for image in images(twin, 8).double().split(1):
        image.requires_grad_()
        logits = exact.run(image).logits
        target = int(logits.argmax())
        (gradient,) = torch.autograd.grad(logits[0, target], image)
        if gradient.abs().max() > 0:  # noise may leave every unit of a small network silent
            break
    check_gradient(exact, image.detach(), gradient, target)


def check_gradient(
    twin: OnnxTwin, image: torch.Tensor, gradient: torch.Tensor, target: int
) -> None:
    """Central differences on 20 random coordinates, within 1e-3 of the gradient's size."""
    at = np.random.default_rng(0).choice(image.numel(), size=min(20, image.numel()), replace=False)
    step, scale = 1e-7, float(gradient.abs().max())
    assert scale > 0
    moved = image.reshape(1, -1).repeat(2 * len(at), 1)
    for row, position in enumerate(at):
        moved[2 * row, position] += step
        moved[2 * row + 1, position] -= step
    with torch.no_grad():
        parts = moved.reshape(-1, *image.shape[1:]).split(8)
        scores = torch.cat([twin.run(part).logits[:, target] for part in parts])
    differences = (scores[0::2] - scores[1::2]) / (2 * step)
    error = (differences - gradient.reshape(-1)[torch.from_numpy(at)]).abs().max()
    assert float(error) <= 1e-3 * max(scale, 1e-9) + 1e-7
