"""Find an input that opens a gate: the boxes of `onnx_invert`, a picture in them, then a trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.checks.file.onnx_graph import Program
from auditor.checks.file.onnx_invert import Inverter, Values
from auditor.checks.file.onnx_probe import open_slice


@dataclass(frozen=True, slots=True)
class Solution:
    """An input that moves the gate: `picture` by input name, `mask` where it matters."""

    picture: dict[str, NDArray[Any]]
    mask: dict[str, NDArray[np.bool_]]


def solve(program: Program, gate: str, low: float, high: float) -> Solution | None:
    """An input in `low`..`high` on which `gate` leaves its usual value; None when not found."""
    piece = open_slice(program, (gate,))
    if piece is None:
        return None
    plain = {
        name: np.full(shape, low + 0.3 * (high - low)).astype(piece.dtypes[name])
        for name, shape in piece.shapes.items()
    }
    rest = piece(plain)
    forward = _forward(program, gate, plain)
    if rest is None or forward is None:
        return None
    usual = rest[0].astype(np.float64)
    step = np.maximum(1.0, 0.05 * np.abs(usual))
    for lows, highs in (
        (usual + step, np.inf),
        (-np.inf, usual - step),
        (usual + 0.01 * step, np.inf),
    ):
        state = Inverter(program, forward, low, high)
        state.want(gate, lows, highs)
        picture, mask = _choose(state, plain, low, high)
        seen = piece(picture) if mask else None
        if seen is not None and not np.allclose(seen[0].astype(np.float64), usual, atol=1e-6):
            return Solution(picture, mask)
    return None


def _choose(
    state: Inverter, plain: dict[str, NDArray[Any]], low: float, high: float
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
    """The picture in the middle of its boxes, at the range's end where a box is open."""
    pictures, masks = dict(plain), dict[str, NDArray[np.bool_]]()
    for name, (lows, highs) in state.boxes.items():
        above, below = np.isfinite(lows), np.isfinite(highs)
        with np.errstate(all="ignore"):
            value = np.where(above & below, (lows + highs) / 2, plain[name])
            value = np.where(above & ~below, np.maximum(lows, high), value)
            value = np.where(below & ~above, np.minimum(highs, low), value)
        pictures[name] = value.astype(plain[name].dtype)
        masks[name] = above | below
    return pictures, masks


def _forward(
    program: Program, gate: str, plain: dict[str, NDArray[Any]]
) -> dict[str, Values] | None:
    """Every value the gate is computed from, on the plain picture."""
    names: list[str] = []
    stack = [gate]
    while stack:
        name = stack.pop()
        if name in names or len(names) > 200:
            continue
        names.append(name)
        node = program.producer.get(name)
        if node is not None:
            stack.extend(node.data)
    made = tuple(name for name in names if name in program.producer)
    whole = open_slice(program, made)
    values = None if whole is None else whole(plain)
    if values is None:
        return None
    known = {name: np.asarray(value) for name, value in zip(made, values, strict=True)}
    known.update(plain)
    for name in names:
        array = program.array(name) if name not in known else None
        if array is not None:
            known[name] = array
    return {n: v.astype(np.float64) for n, v in known.items() if v.dtype.kind in "fiub"}
