"""Small statistics every check shares."""

from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    """A 95 % confidence interval of a share, both ends in 0..1."""

    low: float
    high: float


def wilson(hits: int, n: int, z: float = 1.959964) -> Interval:
    """Wilson score interval of `hits` out of `n` (Wilson 1927); (0, 1) for ``n = 0``."""
    if n == 0:
        return Interval(0.0, 1.0)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return Interval(max(0.0, centre - half), min(1.0, centre + half))
