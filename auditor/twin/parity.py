"""Does the twin compute what the file computes? Asked on every scan before a gradient is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from auditor.artifacts.interface import Array, Runtime

if TYPE_CHECKING:
    from auditor.twin.interface import Twin

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest output value."""

REDUCED_TOLERANCE = 5e-2
"""The same where the file rounds inside (half precision, quantized): the runtime's kernels round at
other places than the twin, by a step at a time.
"""


@dataclass(frozen=True, slots=True)
class Parity:
    """`max_rel` is `max_abs` over the largest output; `agrees` compares it with `tolerance`.

    `same_class` is the share of samples with the same largest score. Infinite where an output is
    not finite in one of the two only, or shapes differ; `reason` then says so.
    """

    max_abs: float
    max_rel: float
    agrees: bool
    tolerance: float
    same_class: float
    reason: str = ""


def check_parity(
    runtime: Runtime, twin: Twin, batch: Array, *, tolerance: float | None = None
) -> Parity:
    """Compare every floating-point output on `batch` (native layout, float).

    `tolerance` defaults to `TOLERANCE`, or `REDUCED_TOLERANCE` for files that compute in half
    precision or quantized integers (`twin.reduced_precision`).
    """
    import torch

    if tolerance is None:
        reduced = bool(getattr(twin, "reduced_precision", False))
        tolerance = REDUCED_TOLERANCE if reduced else TOLERANCE
    native = [np.asarray(output) for output in runtime.run(batch)]
    with torch.no_grad():
        image = torch.from_numpy(np.array(batch, dtype=np.float32))
        ours = [output.cpu().numpy() for output in twin.run(image).outputs]
    if len(native) != len(ours):
        reason = f"the file has {len(native)} outputs, the twin {len(ours)}"
        return Parity(float("inf"), float("inf"), False, tolerance, 0.0, reason)
    worst_abs = worst_rel = 0.0
    same = 1.0
    for theirs, mine in zip(native, ours, strict=True):
        if theirs.shape != mine.shape:
            reason = f"shapes differ: {theirs.shape} in the file, {mine.shape} in the twin"
            return Parity(float("inf"), float("inf"), False, tolerance, 0.0, reason)
        if theirs.dtype.kind != "f" or not theirs.size:
            continue
        gap, scale = _difference(theirs, mine)
        worst_abs, worst_rel = max(worst_abs, gap), max(worst_rel, gap / scale)
        if theirs.ndim > 1 and len(theirs):
            rows = theirs.reshape(len(theirs), -1), mine.reshape(len(mine), -1)
            same = min(same, float((rows[0].argmax(1) == rows[1].argmax(1)).mean()))
    agrees = bool(worst_rel <= tolerance)
    reason = "" if agrees else f"outputs differ by {worst_rel:.2g} of their size"
    return Parity(worst_abs, worst_rel, agrees, tolerance, same, reason)


def _difference(theirs: Array, mine: Array) -> tuple[float, float]:
    """Largest absolute difference, and the size to measure it against."""
    a, b = theirs.astype(np.float64), mine.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf"), 1.0
    if not finite.any():
        return 0.0, 1.0
    gap = float(np.abs(a[finite] - b[finite]).max())
    return gap, max(float(np.abs(a[finite]).max()), 1e-12)
