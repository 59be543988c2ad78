"""Resizing by interpolation matrices, one axis at a time: exact for every coordinate rule."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.twin.onnx.registry import Node, op

Floats = NDArray[np.float64]


@op("Upsample", "Resize")
def resize(node: Node, x: Tensor, *rest: Tensor | None) -> Tensor:
    """Resize to given scales or sizes: nearest, linear or cubic."""
    scales, sizes = _targets(node, rest)
    rank = x.dim()
    axes = [a % rank for a in (node.get("axes") or range(rank))]
    for i, axis in enumerate(axes):
        old = x.shape[axis]
        scale = scales[i] if scales else sizes[i] / old if sizes else 1.0
        new = sizes[i] if sizes else math.floor(old * scale)
        if sizes and node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise NotImplementedError("Resize that keeps the aspect ratio")
        if new == old and scale == 1.0:
            continue
        if "crop" in node.get("coordinate_transformation_mode", "half_pixel"):
            raise NotImplementedError("Resize with a region of interest")
        matrix = _matrix(node, old, new, scale)
        weights = torch.from_numpy(matrix).to(dtype=x.dtype, device=x.device)
        x = torch.matmul(x.movedim(axis, -1), weights.t()).movedim(-1, axis)
    return x


def _targets(
    node: Node, rest: tuple[Tensor | None, ...]
) -> tuple[list[float] | None, list[int] | None]:
    """Scales or sizes, wherever this version of the operator keeps them."""
    if node.get("scales") is not None:
        return [float(s) for s in node.get("scales")], None
    if node.op == "Upsample" or (node.opset < 11 and len(rest) == 1):
        assert rest[0] is not None
        return [float(s) for s in rest[0].tolist()], None
    scales = rest[1] if len(rest) > 1 else None
    sizes = rest[2] if len(rest) > 2 else None
    if sizes is not None and sizes.numel():
        return None, [int(s) for s in sizes.tolist()]
    assert scales is not None
    return [float(s) for s in scales.tolist()], None


def _matrix(node: Node, old: int, new: int, scale: float) -> Floats:
    """(new, old) weights of the old cells in each new one."""
    mode = node.get("mode", "nearest")
    at = _coordinates(node, old, new, scale)
    if mode == "nearest":
        return _nearest(node, at, old)
    kernel, reach = (_triangle, 1.0) if mode == "linear" else (_cubic(node), 2.0)
    shrink = min(1.0, scale) if node.get("antialias", 0) else 1.0
    return _taps(at, old, kernel, reach / shrink, shrink, bool(node.get("exclude_outside", 0)))


def _coordinates(node: Node, old: int, new: int, scale: float) -> Floats:
    """Position of each new cell on the old axis."""
    default = "half_pixel" if node.op == "Resize" and node.opset >= 11 else "asymmetric"
    rule = node.get("coordinate_transformation_mode", default)
    index = np.arange(new, dtype=np.float64)
    if rule == "asymmetric":
        return index / scale
    if rule == "align_corners":
        return index * (old - 1) / (new - 1) if new > 1 else index * 0.0
    if rule == "pytorch_half_pixel" and new <= 1:
        return index * 0.0
    offset = 0.0
    if rule == "half_pixel_symmetric":
        offset = old / 2 * (1 - new / (scale * old))
    return offset + (index + 0.5) / scale - 0.5


def _nearest(node: Node, at: Floats, old: int) -> Floats:
    default = "round_prefer_floor" if node.op == "Resize" and node.opset >= 11 else "floor"
    rule = node.get("nearest_mode", default)
    rounded: dict[str, Callable[[], Floats]] = {
        "floor": lambda: np.floor(at),
        "ceil": lambda: np.ceil(at),
        "round_prefer_floor": lambda: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda: np.floor(at + 0.5),
    }
    chosen = np.clip(rounded[rule](), 0, old - 1).astype(np.int64)
    return np.eye(old, dtype=np.float64)[chosen]


def _taps(
    at: Floats,
    old: int,
    kernel: Callable[[Floats], Floats],
    reach: float,
    shrink: float,
    drop: bool,
) -> Floats:
    """Weights of a kernel around each position; cells beyond the edge count as the edge."""
    matrix = np.zeros((len(at), old))
    for row, centre in enumerate(at):
        cells = np.arange(math.floor(centre - reach) + 1, math.ceil(centre + reach))
        weights = kernel((cells - centre) * shrink)
        if drop:
            weights = np.where((cells < 0) | (cells >= old), 0.0, weights)
        weights = weights / weights.sum()
        np.add.at(matrix[row], np.clip(cells, 0, old - 1), weights)
    return matrix


def _triangle(distance: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - np.abs(distance))


def _cubic(node: Node) -> Callable[[Floats], Floats]:
    a = node.get("cubic_coeff_a", -0.75)

    def kernel(distance: Floats) -> Floats:
        d = np.abs(distance)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return kernel
