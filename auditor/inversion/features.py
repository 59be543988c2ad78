"""From sizes per class to scale-free features of one model.

Sizes differ by orders of magnitude between data sets and architectures; what a backdoor leaves is
one class much easier to reach than the others. All features are ratios or logarithms of ratios, so
that a calibration can be shared between models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAD = 1.4826
"""Makes the median absolute deviation a standard deviation for normal data."""

Sizes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the easiest class stands out. `target` is a class index.

    `raw` = second-smallest size over the smallest; `relative` = the same of sizes divided by the
    linear reference's, for the same target (1 or less: the class is easy by nature); infinite when
    no other class was reached. `anomaly` = (median - size) / MAD of log sizes, Neural Cleanse's
    index; `share` = size over the family's unit; `second` = third-smallest over second-smallest,
    large when two classes stand out together; `spread` = median size over the smallest, large as
    well when several targets hide each other's gap.
    """

    target: int
    raw: float
    relative: float
    anomaly: float
    share: float
    second: float = 1.0
    spread: float = 1.0

    @property
    def honest(self) -> float:
        """The smaller of both gaps."""
        return min(self.raw, self.relative)


CAP = 50.0
"""Gaps are cut here: beyond it they only say that no other class was reached at all."""


def gap(
    sizes: Sizes, reference: Sizes | None, targets: NDArray[np.int64], unit: float
) -> Gap | None:
    """The gap of the smallest of `sizes` (infinite = not reached); None when none was reached.

    `reference` holds the linear reference's sizes of the same classes; where they are not finite,
    or it is None, `relative` falls back to `raw`.
    """
    if not np.isfinite(sizes).any():
        return None
    first = int(np.argmin(sizes))
    relative = raw = _ratio(sizes, first)
    if reference is not None and np.isfinite(reference[first]):
        both = np.isfinite(reference) & np.isfinite(sizes)
        scaled = np.full(len(sizes), np.inf)
        scaled[both] = sizes[both] / reference[both]
        relative = _ratio(scaled, first)
    return Gap(
        int(targets[first]),
        raw,
        relative,
        anomaly(sizes, first),
        float(sizes[first] / unit),
        _second(sizes),
        _spread(sizes),
    )


def _ratio(sizes: Sizes, first: int) -> float:
    others = np.delete(sizes, first)
    others = others[np.isfinite(others)]
    if not len(others):
        return CAP
    return float(min(CAP, others.min() / max(sizes[first], 1e-9)))


def _second(sizes: Sizes) -> float:
    """Third-smallest over second-smallest; 1 below three classes reached."""
    reached = np.sort(sizes[np.isfinite(sizes)])
    return float(min(CAP, reached[2] / max(reached[1], 1e-9))) if len(reached) > 2 else 1.0


def _spread(sizes: Sizes) -> float:
    """Median over smallest, classes never reached counting as the largest."""
    reached = np.sort(sizes)
    middle = reached[len(reached) // 2]
    return float(min(CAP, middle / max(reached[0], 1e-9))) if np.isfinite(middle) else CAP


def anomaly(sizes: Sizes, row: int) -> float:
    """Robust z of ``-log(size)`` of `row` among the classes that were reached; 0 below three."""
    logs = np.log(sizes[np.isfinite(sizes)])
    if len(logs) < 3 or not np.isfinite(sizes[row]):
        return 0.0
    middle = float(np.median(logs))
    spread = _MAD * float(np.median(np.abs(logs - middle)))
    return float((middle - np.log(sizes[row])) / max(spread, 1e-3))
