"""Pictures that do not belong to the set at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.poison.axes import principal_axes
from auditor.poison.interface import FEWEST, Method, NotApplicable, Result, Study, nothing

FAR = 4.2
"""Robust standard deviations above the median log distance, beyond which a picture is foreign."""

BEYOND = 1.5
"""And so many times the distance that 2.5 % of the set exceed: some sets have a long tail."""

EXPLAINED = 0.9
"""Share of the pixel variance the main directions carry."""

_ROUNDS, _TRIM, _SOME = 2, 0.1, 1_500


class Outliers(Method):
    """Robust Mahalanobis distance in our own content features."""

    name = "outliers"
    title = "Out of distribution"
    doc = (
        "Distance of each picture from the bulk of the set in our own image features, in robust "
        "standard deviations (Mahalanobis distance, Lee et al. 2018, with a trimmed covariance), "
        "and what the bulk's main directions leave unexplained. Flags only what is far beyond the "
        "set's own tail: foreign pictures, noise, broken decoding. Foreign pictures that look like "
        "the set's, or make up more than a fortieth of it, are not found."
    )
    order = 90

    def run(self, study: Study) -> Result:
        """Flag the far ones."""
        if len(study.labels) < 5 * FEWEST:
            raise NotApplicable(f"{len(study.labels)} samples are too few to know what is usual")
        score, flagged = nothing(study)
        distance = surprise(study)
        score[:] = np.clip(distance / FAR, 0, 1)
        flagged[:] = distance > max(FAR, BEYOND * float(np.quantile(distance, 0.975)))
        return Result(
            score,
            flagged,
            "out of distribution",
            metrics={"outliers.flagged": int(flagged.sum())},
        )


def surprise(study: Study) -> NDArray[np.float64]:
    """Robust z-score (N,) of the share of a picture that the set's main directions leave over."""
    rng = np.random.default_rng([study.seed, 41])
    count = min(len(study.labels), study.suspects.at_once(_SOME))
    some = _flat(study, np.sort(rng.choice(len(study.labels), count, replace=False)))
    inside = some
    centre, axes = some.mean(axis=0), some[:0]
    for _ in range(_ROUNDS):
        centre = inside.mean(axis=0)
        axes = principal_axes(inside - centre, EXPLAINED)
        rest = _left(some - centre, axes)
        inside = some[rest <= np.quantile(rest, 1 - _TRIM)]
    z = np.zeros(len(study.labels))
    chunk = study.suspects.at_once(4_000)
    for start in range(0, len(z), chunk):
        index = np.arange(start, min(start + chunk, len(z)))
        z[index] = np.log(_left(_flat(study, index) - centre, axes) + 1e-9)
    middle = np.median(z)
    upper = np.quantile(z, 0.8413) - middle
    result: NDArray[np.float64] = (z - middle) / max(float(upper), 1e-6)
    return result


def _flat(study: Study, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pixels (n, D), every n-th row and column of large pictures."""
    _, h, w = study.suspects.shape
    step = max(1, -(-max(h, w) // 32))
    return study.suspects.floats(index)[:, :, ::step, ::step].reshape(len(index), -1)


def _left(points: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared length (n,) of what `axes` leave unexplained."""
    within = points @ axes.T
    rest: NDArray[np.float32] = np.maximum((points**2).sum(axis=1) - (within**2).sum(axis=1), 0)
    return rest
