"""Batches of any size on graphs written for one: filling, joining, and telling what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from auditor.twin.onnx.layers import Shapes


def declared_shape(image: ir.Value) -> tuple[int | None, ...] | None:
    """Sizes the file declares for its input, None where it leaves them open."""
    if image.shape is None:
        return None
    sizes = [dim if isinstance(dim, int) else None for dim in image.shape]
    # Old exporters write 0 or -1 for "any".
    return tuple(size if size is None or size > 0 else None for size in sizes)


def whole_numbers(image: ir.Value) -> tuple[float, float] | None:
    """Smallest and largest value of an integer input; None for inputs that take any number."""
    kind = image.dtype.numpy() if image.dtype is not None and image.dtype.is_integer() else None
    if kind is None or kind.kind not in "iu":
        return None
    limits = np.iinfo(kind)
    return float(limits.min), float(limits.max)


def filled(part: Tensor, size: int) -> Tensor:
    """`part` repeated up to `size` samples (a graph with a fixed batch takes nothing less)."""
    if len(part) >= size:
        return part[:size]
    return torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])


def joined(parts: list[Tensor], count: int, size: int) -> Tensor:
    """`count` samples from runs of `size`; values without a batch axis are stacked."""
    if not parts[0].dim() or parts[0].shape[0] != size:
        parts = [part.unsqueeze(0) for part in parts]
    return torch.cat(parts)[:count]


def merge(value: Tensor) -> Tensor:
    """Without the batch axis of one that mapping over samples leaves behind."""
    return value.squeeze(1) if value.dim() > 1 and value.shape[1] == 1 else value


def per_sample(
    alone: dict[int, tuple[int, ...]], doubled: dict[int, tuple[int, ...]], size: int
) -> Shapes:
    """Values whose first axis follows the batch while the others stay."""
    found = {}
    for slot, shape in doubled.items():
        before = alone.get(slot, ())
        if shape[:1] == (2,) and before[:1] == (size,) and shape[1:] == before[1:]:
            found[slot] = shape[1:]
    return found


def agree(results: Sequence[Tensor], reference: Sequence[Tensor]) -> bool:
    """True when both hold the same values up to 1e-3 of their size."""
    if len(results) != len(reference):
        return False
    for ours, theirs in zip(results, reference, strict=True):
        if ours.shape != theirs.shape:
            return False
        scale = max(float(theirs.abs().max()) if theirs.numel() else 0.0, 1e-6)
        worst = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
        if not math.isfinite(worst) or worst > 1e-3 * scale:
            return False
    return True
