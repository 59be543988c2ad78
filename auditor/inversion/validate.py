"""Does a recovered trigger do on images it has not seen what a backdoor's trigger does?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditor.checks.behaviour.controls import Reference, control_images
from auditor.classifier import Classifier
from auditor.samples.interface import Images
from auditor.statistics import wilson
from auditor.triggers.interface import RecoveredTrigger, Trigger

_CONTROL_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Validation:
    """A recovered trigger on held-out images, all rates in 0..1, measured by the native runtime.

    `asr` (Wilson interval `low`..`high`) over `n` images of other classes, `baseline` the same
    without the trigger; `control` with rearranged perturbations of equal strength, `control_max`
    the strongest of them; `follows` how often a linear model of the samples is sent there too.
    """

    family: str
    trigger: Trigger
    target: int
    size: float
    asr: float
    low: float
    high: float
    baseline: float
    control: float
    control_max: float
    follows: float
    n: int

    def recovered(self) -> RecoveredTrigger:
        """As later checks and sanitizers take it."""
        return RecoveredTrigger(
            self.trigger,
            self.target,
            self.asr,
            self.baseline,
            self.size,
            f"inversion.{self.family}",
        )


def validate(
    classifier: Classifier,
    held_out: Images,
    reference: Reference | None,
    family: str,
    trigger: Trigger,
    target: int,
    size: float,
    seed: int,
) -> Validation | None:
    """Measure `trigger` towards `target`; None when no held-out image is of another class."""
    others = held_out.pixels[held_out.labels != target]
    if not len(others):
        return None
    before = classifier.labels(others) == target
    stamped = trigger.apply(others)
    after = classifier.labels(stamped) == target
    hits, n = int(after.sum()), len(others)
    interval = wilson(hits, n)
    few, changed = others[~before][:_CONTROL_IMAGES], stamped[~before][:_CONTROL_IMAGES]
    rates = [1.0]
    follows = 1.0
    if len(few):
        controls = control_images(few, changed, seed)
        rates = [float((classifier.labels(c) == target).mean()) for c in controls]
        if reference is not None:
            follows = reference.asr(few, changed, target)
    return Validation(
        family=family,
        trigger=trigger,
        target=target,
        size=size,
        asr=hits / n,
        low=interval.low,
        high=interval.high,
        baseline=float(before.mean()),
        control=float(np.mean(rates)),
        control_max=float(np.max(rates)),
        follows=follows,
        n=n,
    )
