"""Randomized smoothing (Cohen, Rosenfeld, Kolter 2019): an L2 certificate for any classifier.

What is certified is the *smoothed* classifier, the majority vote of the model under Gaussian noise,
not the model itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Smoothed:
    """`votes` int64 (N,): majority class, -1 where the vote is too close (abstained).

    `radius` float64 (N,): certified L2 radius in image units, 0 where abstained; each holds with
    probability at least 1 - alpha.
    """

    votes: NDArray[np.int64]
    radius: NDArray[np.float64]


def smooth(
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    images: NDArray[np.float32],
    sigma: float,
    *,
    guess: int = 50,
    draws: int = 500,
    alpha: float = 0.001,
    seed: int = 0,
) -> Smoothed:
    """Certify images float32 (N, C, H, W) by `guess` + `draws` noisy predictions each.

    `predict` gives scores (M, K). Noise is not clipped: the bound needs Gaussian inputs.
    """
    from scipy import stats

    rng = np.random.default_rng(seed)
    votes = np.full(len(images), -1, dtype=np.int64)
    radius = np.zeros(len(images))
    for i, image in enumerate(images):
        first = _counts(predict, image, sigma, guess, rng)
        top = int(first.argmax())
        hits = int(_counts(predict, image, sigma, draws, rng)[top])
        # Clopper-Pearson lower end at level alpha.
        low = float(stats.beta.ppf(alpha, hits, draws - hits + 1)) if hits else 0.0
        if low > 0.5:
            votes[i], radius[i] = top, sigma * float(stats.norm.ppf(low))
    return Smoothed(votes, radius)


def _counts(
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    image: NDArray[np.float32],
    sigma: float,
    draws: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    noise = rng.standard_normal((draws, *image.shape), dtype=np.float32)
    scores = predict((image[None] + sigma * noise).astype(np.float32))
    return np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
