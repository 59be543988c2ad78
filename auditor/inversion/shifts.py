"""All-to-all backdoors: one trigger that moves every class by the same number of places.

The published all-to-all attack (BadNets, Gu et al., 2017) sends class k to k + 1. No class is then
easier to reach than another, so that a search per target class is blind. Here each *shift* d is
searched as a target of its own: the smallest patch that sends k to k + d for every k at once. In a
clean network no patch does that for any d; in a backdoored one the attack's d has a small one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from auditor.checks.behaviour.controls import control_images
from auditor.classifier import Classifier
from auditor.inversion.families import Patch
from auditor.inversion.features import CAP
from auditor.inversion.search import Inversion, Settings, invert
from auditor.samples.interface import Images
from auditor.statistics import wilson
from auditor.triggers.interface import Trigger

SETTINGS = Settings(steps=80, batch=16, asr=0.75, halvings=((0.5, 0.6), (0.75, 0.4)), least=3)
"""A lower ASR than for one target: published all-to-all attacks reach 0.8 to 0.95."""

MOST = 40
"""Classes above which the shifts are too many to search."""


@dataclass(frozen=True, slots=True)
class Shift:
    """The smallest trigger of the easiest shift, on held-out images.

    `gap` is the next shift's size over this one's (50: no other shift was reached); `share` its
    size over the image; `asr` (Wilson `low`..`high`) how many of `n` images answer class + `by`,
    `control` with rearranged perturbations of equal strength.
    """

    by: int
    trigger: Trigger
    gap: float
    share: float
    asr: float
    low: float
    high: float
    control: float
    n: int


def search_shifts(
    classifier: Classifier,
    fitted: Images,
    held_out: Images,
    seed: int,
    device: str,
    spent: Callable[[], bool] = lambda: False,
) -> tuple[Inversion, Shift | None]:
    """The search over shifts 1..K-1 (``targets`` are shifts), and its best on `held_out` images."""
    count = classifier.classes
    family = Patch(classifier.image_shape)
    labels = torch.from_numpy(classifier.labels(fitted.pixels)).to(device)
    shifts = np.arange(1, count, dtype=np.int64)
    wanted = (labels[None] + torch.from_numpy(shifts).to(device)[:, None]) % count
    images = torch.from_numpy(fitted.pixels).to(device)
    settings = replace(SETTINGS, seed=seed)
    found = invert(
        classifier.twin_logits, images, labels, family, shifts, settings, spent, wanted=wanted
    )
    first = int(found.ranked()[0])
    if not np.isfinite(found.sizes[first]):
        return found, None
    others = np.delete(found.sizes, first)
    gap = float(min(CAP, others.min() / max(found.sizes[first], 1e-9)))
    by = int(shifts[first])
    start = tuple(p[first : first + 1] for p in found.parameters)
    goal = replace(settings, steps=40, batch=32, asr=0.9, halvings=(), give_up=1.0)
    refined = invert(
        classifier.twin_logits, images, labels, family, shifts[first : first + 1], goal, spent,
        start, wanted[first : first + 1],
    )  # fmt: skip
    found.passes += refined.passes
    if np.isfinite(refined.sizes[0]):
        start = refined.parameters
    trigger = family.trigger(start, 0)
    share = float(family.size(start)[0]) / family.unit
    return found, _validated(classifier, held_out, trigger, by, gap, share, seed)


def _validated(
    classifier: Classifier, held_out: Images, trigger: Trigger, by: int, gap: float, share: float,
    seed: int,
) -> Shift:  # fmt: skip
    images = held_out.pixels
    before = classifier.labels(images)
    goal = (before + by) % classifier.classes
    stamped = trigger.apply(images)

    hits, n = int((classifier.labels(stamped) == goal).sum()), len(images)
    interval = wilson(hits, n)
    controls = control_images(images[:64], stamped[:64], seed)
    rates = [float((classifier.labels(c) == goal[:64]).mean()) for c in controls]
    return Shift(
        by, trigger, gap, share, hits / n, interval.low, interval.high,
        float(np.mean(rates)), n,
    )  # fmt: skip
