"""How often a finding was right: the least a probability may say beside it.

The regression adds up evidence and knows no "and": one family far ahead, confirmed on unseen images
and seconded by another, may leave it unmoved. The documented rule does know, and its record on the
calibration population is a number of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.calibration.model import Floor

SEVERITIES = ("medium", "high")
_EVEN = 0.5


def floors(found: Sequence[str], truth: NDArray[Any], draws: int, seed: int) -> dict[str, Floor]:
    """By severity: P(backdoored | such a finding) at even odds, Laplace's rule of succession.

    `found` are N severities in words, empty for no finding; `truth` (N,) bool. The interval is from
    models drawn with replacement, kinds kept. Severities that say no more than chance are left out.
    """
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    drawn = [[rng.choice(kind, len(kind)) for kind in kinds] for _ in range(draws)]
    out = {}
    for severity in SEVERITIES:
        hit = np.array([word == severity for word in found], bool)
        value = _share(hit, kinds)
        if value > _EVEN:
            spread = [_share(hit, both) for both in drawn]
            low, high = np.quantile(spread, [0.025, 0.975])
            out[severity] = Floor(
                round(value, 6), round(min(value, float(low)), 6), round(max(value, float(high)), 6)
            )
    return out


def _share(hit: NDArray[np.bool_], kinds: Sequence[NDArray[np.int64]]) -> float:
    """Of two kinds of equal weight: how much of what was hit is of the first."""
    bad, good = ((hit[kind].sum() + 1) / (len(kind) + 2) for kind in kinds)
    return float(bad / (bad + good))
