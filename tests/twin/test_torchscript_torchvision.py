"""Real architectures in every torch form: `pytest -m slow -s` prints the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.twin.torch_checks import WAYS, measure

torchvision = pytest.importorskip("torchvision")

SIDES = {
    "resnet18": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_b0": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
    "vit_b_16": 224,
}


def _check(name: str, way: str, folder: Path, coordinates: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = torchvision.models.get_model(name, weights=None).eval()
    for parameter in net.parameters():  # some heads start at zero: no output, no gradient
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    suffix, save = WAYS[way]
    x = torch.rand(2, 3, SIDES[name], SIDES[name])
    path = save(net, x[:1] if way != "exported" else x, folder / f"net{suffix}")
    found = measure(path, x, coordinates)
    print(f"{name:20s} {way:14s} {found}")
    assert found.parity < 1e-4
    assert found.gradient < 1e-3
    assert found.itself == 0.0
    weights = [n for n, p in net.named_parameters() if p.dim() > 1 and n.endswith("weight")]
    # ViT's attention keeps one packed weight that is no layer of its own.
    assert found.weighted >= len(weights)
    assert found.features is not None


@pytest.mark.parametrize("way", ["scripted", "traced"])
def test_resnet18_agrees(way: str, tmp_path: Path) -> None:
    _check("resnet18", way, tmp_path, 5)


@pytest.mark.timeout(1200)
@pytest.mark.slow
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("name", list(SIDES))
def test_torchvision_agrees(name: str, way: str, tmp_path: Path) -> None:
    _check(name, way, tmp_path, 20)
