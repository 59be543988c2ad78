"""Which class do plain disturbances lead to? Networks have one even without a backdoor.

A small network with batch normalisation may answer "8" to anything noisy: that class is then
reached by small triggers too, with nobody's intent. So random noise and random dots of growing
strength are tried, and for each class the share of changed answers that go to it is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.classifier import Classifier
from auditor.samples.interface import Images
from auditor.triggers.interface import Pixels

ATTRACTED = 0.5
"""From this share of disturbed answers on, a class is where plain noise leads: agreement between
families is then no second opinion, and that all blurred or flat images go there is no news."""

_IMAGES = 64
_NOISE = (0.1, 0.2, 0.35, 0.5)
_DOTS = (0.02, 0.05, 0.1, 0.2)


def attraction(classifier: Classifier, samples: Images, seed: int) -> NDArray[np.float64]:
    """(K,) share of the answers changed by random disturbances that go to each class.

    Every kind and strength of disturbance counts the same, once it changes at least three answers;
    all zero when none does.
    """
    rng = np.random.default_rng(seed)
    few = samples.take(slice(0, _IMAGES))
    clean = classifier.labels(few.pixels)
    shares = []
    for disturbed in _disturbances(few.pixels, rng):
        answers = classifier.labels(disturbed)
        changed = answers[answers != clean]
        if len(changed) >= 3:
            counts = np.bincount(changed, minlength=classifier.classes)
            shares.append(counts[: classifier.classes] / len(changed))
    if not shares:
        return np.zeros(classifier.classes)
    mean: NDArray[np.float64] = np.mean(shares, axis=0)
    return mean


def _disturbances(pixels: Pixels, rng: np.random.Generator) -> list[Pixels]:
    """Uniform noise, the same and another for every image, and random dots of random values."""
    out = []
    count, channels, height, width = pixels.shape
    for amplitude in _NOISE:
        noise = rng.uniform(-amplitude, amplitude, pixels.shape)
        out.append(np.clip(pixels + noise, 0, 1).astype(np.float32))
    for share in _DOTS:
        where = rng.random((count, 1, height, width)) < share
        values = rng.random((count, channels, height, width))
        out.append(np.where(where, values, pixels).astype(np.float32))
    return out
