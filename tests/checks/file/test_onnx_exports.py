"""torchvision networks as both exporters write them: nothing at medium, in reasonable time."""

import time
import warnings

import pytest

from tests.checks.file.onnx_helpers import serious

SMALL = ("squeezenet1_1", "shufflenet_v2_x0_5")
LARGE = (
    "resnet18",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "efficientnet_b0",
    "densenet121",
    "regnet_y_400mf",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
    "googlenet",
)
DETECTORS = (
    "ssdlite320_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
)


def _export(network, inputs, path, dynamo):
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kwargs = {"dynamo": True, "verbose": False} if dynamo else {"dynamo": False}
        torch.onnx.export(network.eval(), inputs, str(path), **kwargs)


def _classifier(name, path, dynamo):
    import torch
    import torchvision

    side = 224 if name.startswith("vit") else 64
    extra = {"init_weights": False} if name == "googlenet" else {}
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, **extra)
    _export(network, (torch.rand(1, 3, side, side),), path, dynamo)


@pytest.mark.parametrize("name", SMALL)
def test_small_exports_are_quiet(name, tmp_path):
    _classifier(name, tmp_path / "m.onnx", dynamo=False)
    assert serious(tmp_path / "m.onnx") == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # exporting alone takes minutes on a busy machine
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", LARGE)
def test_large_exports_are_quiet(name, dynamo, tmp_path):
    _classifier(name, tmp_path / "m.onnx", dynamo)
    start = time.process_time()
    assert serious(tmp_path / "m.onnx") == []
    assert time.process_time() - start < 10


@pytest.mark.slow
@pytest.mark.timeout(1200)  # exporting alone takes minutes on a busy machine
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_are_quiet(name, tmp_path):
    import torch
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    _export(network, ([torch.rand(3, 96, 96)],), tmp_path / "m.onnx", dynamo=False)
    assert serious(tmp_path / "m.onnx") == []
