"""Comparisons, logic and choice: no gradient passes through a condition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from auditor.twin.onnx.ops.elementwise import broadcast, together
from auditor.twin.onnx.registry import Node, op


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    def run(node: Node, a: Tensor, b: Tensor) -> Tensor:
        return function(*broadcast(node, a, b))

    op(name, gradient=False)(run)


for _name, _function in {
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}.items():
    _binary(_name, _function)


@op("Not", gradient=False)
def not_(node: Node, x: Tensor) -> Tensor:
    """Logical negation."""
    return torch.logical_not(x)


@op("IsNaN", gradient=False)
def is_nan(node: Node, x: Tensor) -> Tensor:
    """True where `x` is not a number."""
    return torch.isnan(x)


@op("IsInf", gradient=False)
def is_inf(node: Node, x: Tensor) -> Tensor:
    """True where `x` is infinite, of the signs asked for."""
    positive = torch.isposinf(x) & bool(node.get("detect_positive", 1))
    return positive | (torch.isneginf(x) & bool(node.get("detect_negative", 1)))


@op("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Choose; gradients flow to the chosen values."""
    condition, a, b = together(condition, a, b)
    return torch.where(condition.bool(), a, b)
