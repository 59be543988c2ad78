"""No finding at medium or above on honest files of many kinds."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch

from tests.artifacts.torch_files import entries, members, raw_zip, write
from tests.checks.file.torch_nets import FORMS, HONEST, export, save
from tests.checks.file.torch_scan import scan, serious

SHARED = Path(os.environ.get("AUDITOR_SHARED", "/work/shared"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HONEST)
def test_quiet_on_honest_modules(name: str, form: str, tmp_path: Path) -> None:
    make, shape = HONEST[name]
    assert serious(scan(save(make(), shape, form, tmp_path / "m.pt"))) == []


@pytest.mark.parametrize(
    "name", [n for n in HONEST if n not in ("normalised", "early_exit", "checks")]
)
def test_quiet_on_honest_exported_programs(name: str, tmp_path: Path) -> None:
    make, shape = HONEST[name]
    assert scan(export(make(), shape, tmp_path / "m.pt2")) == []


def test_quiet_on_a_quantized_module(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(HONEST["cnn"][0]().eval(), {torch.nn.Linear})
        torch.jit.save(torch.jit.script(net), str(tmp_path / "m.pt"))
    assert serious(scan(tmp_path / "m.pt")) == []


@pytest.mark.parametrize("maker", ["zipfile", "by hand"])
def test_quiet_on_repacked_archives(maker: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    if maker == "zipfile":
        write(path, members())
    else:
        path.write_bytes(raw_zip(entries(members())))
    assert scan(path) == []


def test_quiet_on_extra_files(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(HONEST["cnn"][0]().eval())
        extra = {"labels.txt": "cat\ndog\n", "config.json": '{"mean": [0.5]}', "README.md": "# Net"}
        torch.jit.save(module, str(tmp_path / "m.pt"), _extra_files=extra)
    assert serious(scan(tmp_path / "m.pt")) == []


def test_quiet_on_the_shared_files() -> None:
    files = [*SHARED.glob("models/*/*.pt"), *SHARED.glob("fixtures/torchscript/[!m]*.pt")]
    if not files:
        pytest.skip("the shared test material is not here")
    assert {path.name: serious(scan(path)) for path in files if serious(scan(path))} == {}


CLASSIFIERS = """resnet18 mobilenet_v3_small efficientnet_b0 convnext_tiny swin_t vit_b_16
    densenet121 shufflenet_v2_x0_5 squeezenet1_0 regnet_y_400mf googlenet inception_v3
    maxvit_t""".split()  # noqa: SIM905 - a table of names
DETECTORS = """fasterrcnn_mobilenet_v3_large_320_fpn ssdlite320_mobilenet_v3_large
    fcos_resnet50_fpn retinanet_resnet50_fpn maskrcnn_resnet50_fpn""".split()  # noqa: SIM905 - a table of names


@pytest.mark.slow
@pytest.mark.parametrize("form", ["scripted", "traced", "frozen"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_quiet_on_torchvision_classifiers(name: str, form: str, tmp_path: Path) -> None:
    import torchvision

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    net = getattr(torchvision.models, name)(weights=None, **options)
    side = 299 if name == "inception_v3" else 224
    path = save(net, (1, 3, side, side), form, tmp_path / "m.pt")
    assert serious(scan(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_quiet_on_torchvision_detectors(name: str, tmp_path: Path) -> None:
    import torchvision

    make = getattr(torchvision.models.detection, name)
    net = make(weights=None, weights_backbone=None)
    assert serious(scan(save(net, (1,), "scripted", tmp_path / "m.pt"))) == []
