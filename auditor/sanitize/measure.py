"""What a repair is judged by: accuracy, recovered ASR, and how easily random triggers move it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auditor.sanitize.stamps import random_trigger

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.classifier import Classifier
    from auditor.samples.interface import Images
    from auditor.triggers.interface import RecoveredTrigger

_BATCH = 256
_STAMPS, _STAMPED = 16, 64


@dataclass(frozen=True, slots=True)
class Paired:
    """A loss of accuracy measured on the same `n` samples; 95 % interval `low`..`high`.

    All are shares (0.01 is one point), positive when accuracy was lost.
    """

    drop: float
    low: float
    high: float
    n: int


def paired_drop(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Paired:
    """The drop from two columns of hits (N,), with the normal interval of paired differences.

    One sample is added to each kind of disagreement (Agresti & Min, 2005), so that the interval is
    not of width zero when no sample changed. Wide open for N = 0.
    """
    n = len(before)
    if n == 0:
        return Paired(0.0, -1.0, 1.0, 0)
    lost = float(np.sum(before & ~after))
    won = float(np.sum(~before & after))
    b, c, m = lost + 0.5, won + 0.5, n + 2.0
    half = 1.959964 * float(np.sqrt(max(0.0, b + c - (b - c) ** 2 / m))) / m
    centre = (b - c) / m
    return Paired((lost - won) / n, centre - half, centre + half, n)


def twin_labels(
    classifier: Classifier,
    pixels: NDArray[np.float32],
    parameters: Mapping[str, Tensor] | None = None,
) -> NDArray[np.int64]:
    """Predicted classes (N,) of the twin with some parameters replaced."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(pixels), _BATCH):
            chunk = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _BATCH]))
            logits = classifier.twin_logits(chunk.to(classifier.device), parameters)
            parts.append(logits.argmax(1).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def twin_accuracy(
    classifier: Classifier, samples: Images, parameters: Mapping[str, Tensor] | None = None
) -> float:
    """Clean accuracy of the twin on `samples`; 0 without any."""
    if not len(samples):
        return 0.0
    return float((twin_labels(classifier, samples.pixels, parameters) == samples.labels).mean())


def twin_asr(
    classifier: Classifier,
    samples: Images,
    trigger: RecoveredTrigger,
    parameters: Mapping[str, Tensor] | None = None,
) -> float:
    """Share of images of other classes that `trigger` sends to its target; 0 without any."""
    others = samples.pixels[samples.labels != trigger.target]
    if not len(others):
        return 0.0
    stamped = trigger.trigger.apply(others)
    return float((twin_labels(classifier, stamped, parameters) == trigger.target).mean())


class Stamped:
    """Some of the samples under a fixed set of random triggers: the same for every candidate."""

    def __init__(self, samples: Images, seed: int) -> None:
        rng = np.random.default_rng([seed, 5])
        few = samples.pixels[:_STAMPED]
        self.labels = samples.labels[:_STAMPED]
        side = min(few.shape[2:]) if few.ndim == 4 else 0
        self.images: list[Any] = []
        if len(few):
            self.images = [random_trigger(rng, side).apply(few) for _ in range(_STAMPS)]

    def moved(
        self, classifier: Classifier, parameters: Mapping[str, Tensor] | None = None
    ) -> float:
        """Mean share of stamped images that do not get their true label; 0 without samples."""
        if not self.images:
            return 0.0
        wrong = [
            float((twin_labels(classifier, images, parameters) != self.labels).mean())
            for images in self.images
        ]
        return float(np.mean(wrong))
