"""Operators by name: each is one small function from tensors to tensors.

A function gets its `Node` (decoded attributes, operator set version) and its inputs as tensors,
absent ones as None, and returns one tensor or a tuple. Options are read "attribute, else input", so
that one function serves every version of an operator; the few that changed meaning look at
`Node.opset`. Floats are in the twin's compute type; integers are int64 (8-bit ones keep their type
when stored); quantized values that depend on the image are floats holding integers, so that
gradients flow straight through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Result = Tensor | tuple[Tensor | None, ...]
Operator = Callable[..., Result]

OPERATORS: dict[str, Operator] = {}
"""``Conv`` or ``com.microsoft::QLinearAdd`` -> function."""

NO_GRADIENT: set[str] = set()
"""Operators through which no useful gradient flows (or only a straight-through one)."""


@dataclass(slots=True)
class Node:
    """What an operator may know besides its input tensors.

    `dtypes` names the declared type of each input (``"INT8"``), None where unknown; `outputs` is
    the number of outputs asked for; `dtype` is the twin's floating-point type.
    """

    op: str
    name: str
    opset: int
    attributes: Mapping[str, Any]
    outputs: int
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtypes: tuple[str | None, ...] = ()

    def get(self, name: str, default: Any = None) -> Any:
        """Attribute `name`, decoded, or `default`."""
        return self.attributes.get(name, default)

    def ints(self, name: str, tensor: Tensor | None, default: Any = None) -> Any:
        """Integers from input `tensor` when it is there, else from attribute `name`."""
        if tensor is not None:
            return [int(v) for v in tensor.reshape(-1).tolist()]
        return self.attributes.get(name, default)


def op(*names: str, gradient: bool = True) -> Callable[[Operator], Operator]:
    """Register a function under operator `names`; `gradient=False` where none passes."""

    def register(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function
            if not gradient:
                NO_GRADIENT.add(name)
        return function

    return register


def load_operators() -> dict[str, Operator]:
    """Import every operator module and return the registry."""
    from auditor.twin.onnx.ops import (  # noqa: F401
        activation,
        attention,
        convolution,
        elementwise,
        indexing,
        logic,
        matrix,
        normalization,
        pooling,
        quantized,
        reduction,
        resize,
        shape,
    )

    return OPERATORS
