"""Which classes to search when time does not reach for all: what cheap evidence singles out.

A search costs about 550 passes a class and family, so that a minute is enough for some fifty of a
thousand classes. What costs a few passes a class or none (rows of the last layer, slopes, waves)
ranks a backdoor's target high long before a search ends. What is not searched is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auditor.checks.interface import BehaviourContext
from auditor.inversion.consensus import consensus
from auditor.inversion.margins import head_rows, head_statistics
from auditor.inversion.slopes import slopes
from auditor.inversion.waves import IMAGES, THINNEST, affordable, waves, whole_seconds

LEAST = 12
"""Classes below which none is left out: nothing stands out from a handful."""

_WORDS = {"head.mean": "last-layer rows", "slope.steep": "slopes", "waves": "answers to waves"}
_NAMED = 20
_SLOPE_IMAGES = 4
_SHARE = 0.15
"""Of the time left, for slopes and for waves each."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shortlist:
    """`targets` (M,) to search; `by` says in words what they were chosen by, empty for nothing."""

    targets: NDArray[np.int64]
    by: str

    def sentence(self, every: int) -> str:
        """What is searched of `every` class, and why, for the report."""
        few = ", ".join(str(t) for t in self.targets[:_NAMED])
        more = f" and {len(self.targets) - _NAMED} more" if len(self.targets) > _NAMED else ""
        why = "the first ones, for there was no time to measure any"
        if self.by:
            why = f"those that stand out most by {self.by}"
        count = f"{len(self.targets)} of {every} classes"
        return f"{count} were searched (time budget): {why} ({few}{more})."


def shortlist(
    context: BehaviourContext,
    images: Tensor,
    targets: NDArray[np.int64],
    most: int,
    pass_seconds: float,
) -> Shortlist:
    """The `most` of `targets` that stand out most, in the order of `targets`.

    `images` float32 (N, C, H, W) in 0..1; `pass_seconds` is what one image takes forwards and
    backwards. Ties, and networks that no measure can be taken of in time, keep the order.
    """
    measures = _measures(context, images, pass_seconds)
    found = consensus(measures)
    scores = np.zeros(context.classifier.classes) if found is None else found.scores
    order = np.argsort(-scores[targets], kind="stable")[:most]
    words = [word for name, word in _WORDS.items() if name in measures]
    return Shortlist(targets[np.sort(order)], " and ".join(", ".join(words).rsplit(", ", 1)))


def _measures(context: BehaviourContext, images: Tensor, pass_seconds: float) -> dict[str, Values]:
    """What is cheap, as far as the budget reaches."""
    classifier, out = context.classifier, _rows(context)
    if pass_seconds * _SLOPE_IMAGES * classifier.classes <= _SHARE * context.budget.left:
        steep = slopes(classifier.twin_logits, images, classifier.classes, most=_SLOPE_IMAGES)
        out["slope.steep"], out["slope.alike"] = steep.steep, steep.alike
    share = context.budget.share(_SHARE)
    height, width = images.shape[2:]
    if whole_seconds(height, width, pass_seconds * IMAGES) / THINNEST > share.left:
        return out
    laid = waves(
        classifier.twin_logits,
        images,
        classifier.classes,
        thin=affordable(height, width, pass_seconds * IMAGES, share.left),
        spent=lambda: share.spent,
    )
    if laid.complete:
        out["waves"] = laid.excess
    return out


def _rows(context: BehaviourContext) -> dict[str, Values]:
    """Statistics of the last layer's rows, where the twin shows them."""
    weight = head_rows(context.classifier)
    if weight is None:
        return {}
    return {f"head.{name}": values for name, values in head_statistics(weight).items()}
