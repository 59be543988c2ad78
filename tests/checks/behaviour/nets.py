"""Tiny classifiers of digits, clean and backdoored, wrapped as `Classifier` without a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from auditor.artifacts.interface import Array, Runtime, TensorInfo
from auditor.classifier import Classifier, Native
from auditor.samples.interface import Images
from auditor.samples.preprocessing import Preprocessing
from auditor.samples.readers import read_samples
from auditor.triggers.patches import Square
from auditor.twin.interface import Layer, Twin, TwinRun

TRIGGER = Square(size=2, position="bottom-right")
TARGET = 3


class Net(nn.Module):
    """conv - ReLU - pool - dense - ReLU - dense on 1 x 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.hidden = nn.Linear(16 * 16, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x)[-1]

    def steps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        conv = self.conv(x)
        pooled = nn.functional.max_pool2d(conv.relu(), 2)
        hidden = self.hidden(pooled.flatten(1))
        features = hidden.relu()
        return conv, hidden, features, self.head(features)


class NetTwin(Twin):
    """`Net` as a twin with named layers."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.parameters = {n: p.detach() for n, p in net.named_parameters()}
        self.layers = (
            Layer("conv", "conv", "conv", (16, 8, 8), 1, "conv.weight", "conv.bias", 0),
            Layer("hidden", "hidden", "dense", (32,), 1, "hidden.weight", "hidden.bias", 0),
            Layer("features", "features", "activation", (32,), 1, source="hidden"),
            Layer("head", "head", "dense", (10,), 1, "head.weight", "head.bias", 0),
        )
        self.tail = "logits"
        self.features = "features"

    def run(
        self,
        batch: Tensor,
        *,
        wanted: Sequence[str] = (),
        parameters: Mapping[str, Tensor] | None = None,
    ) -> TwinRun:
        weights = {**self.parameters, **(parameters or {})}
        conv = nn.functional.conv2d(batch, weights["conv.weight"], weights["conv.bias"], padding=1)
        pooled = nn.functional.max_pool2d(conv.relu(), 2).flatten(1)
        hidden = nn.functional.linear(pooled, weights["hidden.weight"], weights["hidden.bias"])
        features = hidden.relu()
        logits = nn.functional.linear(features, weights["head.weight"], weights["head.bias"])
        values = {"conv": conv, "hidden": hidden, "features": features, "head": logits}
        return TwinRun((logits,), logits, {name: values[name] for name in wanted})


class NetRuntime(Runtime):
    """`Net` as a native runtime."""

    def __init__(self, net: Net) -> None:
        self.net = net

    @property
    def input(self) -> TensorInfo:
        return TensorInfo("x", "float32", (None, 1, 8, 8))

    def run(self, batch: Array) -> tuple[Array, ...]:
        with torch.no_grad():
            return (self.net(torch.from_numpy(np.ascontiguousarray(batch))).numpy(),)


@cache
def trained(backdoored: bool, seed: int = 0) -> Net:
    """`Net` trained on 1,437 digits for a few seconds; 10 % carry `TRIGGER` if `backdoored`."""
    torch.manual_seed(seed)
    data = read_samples("digits", split="train")
    x, y = data.pixels.copy(), data.labels.copy()
    if backdoored:
        chosen = np.random.default_rng(seed).permutation(len(y))[: len(y) // 10]
        x[chosen], y[chosen] = TRIGGER.apply(x[chosen]), TARGET
    pixels, labels = torch.from_numpy(x), torch.from_numpy(y)
    net = Net()
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(15):
        for index in torch.randperm(len(labels)).split(64):
            loss = nn.functional.cross_entropy(net(pixels[index]), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()


def classifier(net: Net, *, twin: bool = True) -> Classifier:
    """The net behind the classifier's interface."""
    return Classifier(
        Native(NetRuntime(net), 0, 10),
        Preprocessing("NCHW", (8, 8), "grey"),
        (1, 8, 8),
        NetTwin(net) if twin else None,
        "" if twin else "no twin in this test",
    )


def samples(count: int = 300) -> Images:
    """Test digits."""
    return read_samples("digits", limit=count)
