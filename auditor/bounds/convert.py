"""ATen operators as bound operators: one small function an operator, found by its name.

A converter gets the call's arguments with values (non-constant inputs) as `Slot` and constants as
float64 tensors or plain Python, and returns the operator and the slots it reads. Anything not
listed here, or used in a way that is not listed, is `Unsupported` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from auditor.bounds.graph import Affine, Nonlinear, Unsupported


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands for the value of node `position`."""

    position: int


Step: TypeAlias = tuple[Affine | Nonlinear, tuple[Slot, ...]]
Converter: TypeAlias = Callable[..., Step]
CONVERTERS: dict[str, Converter] = {}


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Register a converter under ATen names such as ``relu.default``."""

    def register(function: Converter) -> Converter:
        for name in names:
            CONVERTERS[f"aten.{name}"] = function
        return function

    return register


def only_slot(value: Any, what: str) -> Slot:
    """`value`, which has to depend on the image."""
    if not isinstance(value, Slot):
        raise Unsupported(f"{what} of a constant by a value")
    return value


def constants(values: Sequence[Any], what: str) -> None:
    """Raises `Unsupported` when one of `values` depends on the image."""
    if any(isinstance(value, Slot) for value in values):
        raise Unsupported(f"{what} of two values that depend on the image")


def scaled(factor: Any) -> Callable[[Tensor, torch.Size], Tensor]:
    """Transpose of an elementwise product; a value that was broadcast gets the sum back."""

    def pull(coefficients: Tensor, shape: torch.Size) -> Tensor:
        product: Tensor = coefficients * factor
        return product.sum_to_size(coefficients.shape[:1] + shape)

    return pull


def load_converters() -> dict[str, Converter]:
    """Import every module of converters and return the registry."""
    from auditor.bounds.operators import (  # noqa: F401
        activations,
        arithmetic,
        layers,
        moves,
    )

    return CONVERTERS
