"""Networks and their exports by both of torch's exporters, for tests."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn about themselves; our own warnings stay errors."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def capture(module: nn.Module, sample: torch.Tensor) -> Any:
    """The module as torch.export sees it, with any batch size: done once for all operator sets."""
    with quiet():
        batch = torch.export.Dim("N", min=1, max=64)
        return torch.export.export(module.eval(), (sample,), dynamic_shapes=({0: batch},))


def export(
    module: Any, sample: torch.Tensor, path: Path, exporter: str, opset: int, **options: Any
) -> Path:
    """Export with ``dynamo`` (a module or what `capture` gave) or ``legacy``.

    Raises what the exporter raises.
    """
    with quiet():
        if exporter == "dynamo":
            if isinstance(module, nn.Module):
                module = capture(module, sample)
            torch.onnx.export(
                module, (), path, dynamo=True, opset_version=opset, verbose=False, **options
            )
            return path
        buffer = io.BytesIO()
        torch.onnx.export(
            module.eval(),
            (sample,),
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            dynamic_axes={"input": {0: "N"}},
            **options,
        )
    path.write_bytes(buffer.getvalue())
    return path


class SmallCnn(nn.Module):
    """Convolution, batch norm, depthwise convolution, pooling, squeeze-and-excite, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(64, 7)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        h = self.depth(x)
        return self.head(self.pool(x + h * self.gate(h)))


class SmallVit(nn.Module):
    """Patches, a class token, two transformer blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        self.place = nn.Parameter(torch.randn(1, 17, 24))
        layer = nn.TransformerEncoderLayer(24, 3, 48, batch_first=True, activation="gelu")
        self.blocks = nn.ModuleList([layer, layer])
        self.head = nn.Linear(24, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(h.shape[0], -1, -1), h], 1) + self.place
        for block in self.blocks:
            h = block(h)
        return self.head(h[:, 0])
