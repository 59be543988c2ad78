"""Published ONNX files: twin against ONNX Runtime, gradients against finite differences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auditor.artifacts.onnx import OnnxArtifact
from auditor.twin.onnx.network import OnnxTwin
from auditor.twin.parity import check_parity
from tests.twin.finite_differences import LIMIT, gradient_error

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
    for image in images(twin, 8).split(1):
        try:
            found = gradient_error(twin, image)
        except AssertionError as nothing:  # noise may leave every unit of a small network silent
            if "zero everywhere" not in str(nothing):
                raise
            continue
        assert found.worst <= LIMIT, found
        return
    pytest.fail("no image has a gradient")
