"""Activations, softmax among them (its meaning changed at operator set 13)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.twin.onnx.registry import Node, op

_LOWEST = torch.finfo(torch.float32).min


def _simple(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def run(node: Node, x: Tensor) -> Tensor:
        return function(x)

    op(name)(run)


_simple("Relu", torch.relu)
_simple("Sigmoid", torch.sigmoid)
_simple("Tanh", torch.tanh)
_simple("Softplus", F.softplus)
_simple("Softsign", F.softsign)
_simple("Mish", F.mish)


def _scalar(value: Tensor | None, default: float) -> float:
    return default if value is None or value.numel() == 0 else float(value.reshape(-1)[0])


@op("Clip")
def clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clamp between attributes (operator set < 11) or inputs ``min`` and ``max``."""
    if x.is_floating_point():
        floor, ceiling = _scalar(low, node.get("min", _LOWEST)), _scalar(high, -_LOWEST)
        return torch.clamp(x, floor, node.get("max", ceiling) if high is None else ceiling)
    return torch.clamp(x, None if low is None else int(low), None if high is None else int(high))


@op("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    """Leaky ReLU."""
    return F.leaky_relu(x, node.get("alpha", 0.01))


@op("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """ReLU with learned slopes (before operator set 7 one per channel)."""
    if node.opset < 7 and slope.dim() == 1 and x.dim() > 2:
        slope = slope.reshape(-1, *([1] * (x.dim() - 2)))
    return torch.where(x >= 0, x, x * slope)


@op("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    """Exponential linear unit."""
    return F.elu(x, node.get("alpha", 1.0))


@op("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    """Continuously differentiable ELU."""
    return F.celu(x, node.get("alpha", 1.0))


@op("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    """Scaled ELU with the file's own constants."""
    y: Tensor = F.elu(x, node.get("alpha", 1.67326319217681884765625))
    gain: float = node.get("gamma", 1.05070102214813232421875)
    return y * gain


@op("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    """`x` where it exceeds alpha, else 0."""
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


@op("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    """Soft or hard shrinkage."""
    lambd, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    zero = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero))


@op("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    """Piecewise linear sigmoid."""
    return torch.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0.0, 1.0)


@op("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    """`x` times its hard sigmoid (Howard et al., 2019)."""
    return x * torch.clamp(x / 6 + 0.5, 0.0, 1.0)


@op("Swish", "com.microsoft::QuickGelu")
def swish(node: Node, x: Tensor) -> Tensor:
    """`x` times a sigmoid of alpha `x`."""
    return x * torch.sigmoid(node.get("alpha", 1.0 if node.op == "Swish" else 1.702) * x)


@op("Gelu", "com.microsoft::Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact or by tanh."""
    return F.gelu(x, approximate=node.get("approximate", "none"))


@op("com.microsoft::FastGelu", "com.microsoft::BiasGelu")
def biased_gelu(node: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU of `x` plus bias; FastGelu approximates by tanh."""
    x = x if bias is None else x + bias
    return F.gelu(x, approximate="tanh" if node.op.endswith("FastGelu") else "none")


def _over_axis(node: Node, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """From operator set 13 along one axis; before, over everything from that axis on."""
    if node.opset >= 13:
        return function(x, node.get("axis", -1))
    axis = node.get("axis", 1) % max(x.dim(), 1)
    return function(x.flatten(axis), axis).reshape(x.shape)


@op("Softmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Softmax."""
    return _over_axis(node, x, torch.softmax)


@op("LogSoftmax")
def log_softmax(node: Node, x: Tensor) -> Tensor:
    """Logarithm of softmax."""
    return _over_axis(node, x, torch.log_softmax)


@op("Hardmax", gradient=False)
def hardmax(node: Node, x: Tensor) -> Tensor:
    """One where the maximum is, else zero."""

    def function(values: Tensor, axis: int) -> Tensor:
        winner = values.argmax(axis, keepdim=True)
        return torch.zeros_like(values).scatter(axis, winner, 1.0)

    return _over_axis(node, x, function)
