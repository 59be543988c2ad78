"""Arithmetic on tensors, with the broadcasting rules of every operator set."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from auditor.twin.onnx.registry import Node, op


def together(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors on one device: constants and shapes stay on the CPU until they meet data."""
    device = next((t.device for t in tensors if t.device.type != "cpu"), None)
    if device is None:
        return tensors
    return tuple(t if t.device == device or t.dim() == 0 else t.to(device) for t in tensors)


def broadcast(node: Node, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Align `b` with `a`; before operator set 7 that was asked for with ``broadcast``, ``axis``."""
    axis = node.get("axis") if node.opset < 7 else None
    if axis is not None and b.dim() < a.dim():
        b = b.reshape(*b.shape, *([1] * (a.dim() - axis % a.dim() - b.dim())))
    return together(a, b)


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    def run(node: Node, a: Tensor, b: Tensor) -> Tensor:
        return function(*broadcast(node, a, b))

    op(name)(run)


_binary("Add", torch.add)
_binary("Sub", torch.sub)
_binary("Mul", torch.mul)


@op("Div")
def div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Division; integers truncate."""
    a, b = broadcast(node, a, b)
    if a.is_floating_point() or b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


@op("Pow")
def power(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Power; the result has the type of the base."""
    a, b = broadcast(node, a, b)
    if b.numel() == 1 and not b.requires_grad and b.device.type == "cpu":
        return torch.pow(a, b.item()).to(a.dtype)
    return torch.pow(a, b).to(a.dtype)


@op("Mod")
def modulo(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Remainder with the divisor's sign, or the dividend's with ``fmod``."""
    a, b = together(a, b)
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


def _variadic(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    def run(node: Node, *tensors: Tensor) -> Tensor:
        return reduce(function, together(*tensors))

    op(name)(run)


_variadic("Sum", torch.add)
_variadic("Max", torch.maximum)
_variadic("Min", torch.minimum)


@op("Mean")
def mean(node: Node, *tensors: Tensor) -> Tensor:
    """Elementwise mean of the inputs."""
    return reduce(torch.add, together(*tensors)) / len(tensors)


def _unary(name: str, function: Callable[[Tensor], Tensor], *, gradient: bool = True) -> None:
    def run(node: Node, x: Tensor) -> Tensor:
        return function(x)

    op(name, gradient=gradient)(run)


for _name, _function in {
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Erf": torch.erf,
}.items():
    _unary(_name, _function)

for _name, _function in {"Sign": torch.sign, "Floor": torch.floor, "Ceil": torch.ceil}.items():
    _unary(_name, _function, gradient=False)


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing to save: the gradient is passed on as it is."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """Value of `exact`, gradient of `smooth` (Bengio et al., 2013)."""
    if not torch.is_grad_enabled():
        return exact
    result: Tensor = _StraightThrough.apply(exact.detach(), smooth)
    return result


@op("Round", gradient=False)
def round_(node: Node, x: Tensor) -> Tensor:
    """Round half to even; the gradient passes straight through."""
    return straight_through(torch.round(x), x)
