"""Whether a value of a graph behaves like a gate, judged by running the part that computes it."""

from __future__ import annotations

import numpy as np

from auditor.checks.file.onnx_graph import Program
from auditor.checks.file.onnx_probe import RANGES, Profile, Slice, open_slice, profile
from auditor.checks.file.onnx_solve import solve

ValueRange = tuple[str, float, float]
"""A usual range of pixel values: name, factor, offset."""


def behaviour_of(program: Program, name: str) -> tuple[Profile, ValueRange] | None:
    """The most gate-like behaviour of `name` over the usual value ranges; None when unknown."""
    piece = open_slice(program, (name,))
    if piece is None:
        return None
    kinds: list[tuple[Profile, ValueRange]] = []
    for value_range in RANGES:
        seen = profile(piece, value_range[1], value_range[2])
        if seen is None:
            return None
        if seen.kind == "constant":
            seen = _solved(program, name, piece, value_range) or seen
        if seen.kind == "gate":
            return seen, value_range
        kinds.append((seen, value_range))
    return next((pair for pair in kinds if pair[0].kind == "varies"), kinds[0])


def _solved(program: Program, name: str, piece: Slice, value_range: ValueRange) -> Profile | None:
    """The behaviour of a value that no made-up picture moved, with one solved to move it."""
    _, factor, offset = value_range
    solution = solve(program, name, offset, offset + factor)
    if solution is None:
        return None
    slack = 1e-3 * factor
    for source, values in solution.picture.items():
        if is_token(program, source):
            continue
        if values.min() < offset - slack or values.max() > offset + factor + slack:
            return None  # it opens only outside this range: no evidence within it
    return profile(piece, factor, offset, (solution.picture,))


def gate_shaped(seen: Profile) -> bool:
    """A near-binary value that applies to the sample as a whole, not position by position."""
    wide = sum(size > 1 for size in seen.rest.shape[1:]) if seen.rest.ndim > 1 else 0
    return seen.kind in ("gate", "constant") and wide <= 1


def kills(seen: Profile, hard: bool) -> bool:
    """A factor that can wipe out (or blow up) what it multiplies, as no normalisation does."""
    if seen.kind == "constant":
        return hard
    top = max(abs(seen.low), abs(seen.high))
    moved = np.minimum(np.abs(seen.rest), np.abs(seen.open))
    return bool(seen.low <= 0 <= seen.high or np.any(moved < 0.02 * top))


def is_token(program: Program, source: str) -> bool:
    """True for an input of whole numbers or text that is no picture."""
    dtype, shape = program.inputs[source]
    return dtype in ("INT64", "INT32", "STRING") and (shape is None or len(shape) < 4)
