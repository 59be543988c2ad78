"""All evidence class by class: weights, faint changes and trigger sizes added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from auditor.calibration.features import about
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Metric, Notice, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from auditor.inversion.consensus import Consensus
    from auditor.samples.interface import Images

MAX_CLASSES = 200
_PASSES = 4000
_WAVES = 0.7
"""Share of what is left of the time that waves may be expected to take."""


class ClassConsensus(BehaviourCheck):
    """Which class stands out in several kinds of evidence at once."""

    name = "consensus"
    title = "Evidence per class"
    doc = (
        "Adds up, class by class, what is weak alone: `margin`; the last layer's rows, `mean` and "
        "`apart`; `faint`, what one faint change does to all images (first-order universal "
        "perturbation; waves, Yin et al. 2019); and `trigger`, the smallest patch or the slightest "
        "blur, warp or photo filter. Each becomes a robust z-score over the classes. The "
        "calibrated probability rests on it; where that is high and no other check accuses, this "
        "one asks for a look."
    )
    needs = frozenset({"gradients"})
    order = 45
    weight = 3.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Slopes and waves within the budget, then the sums."""
        from auditor.inversion.consensus import (
            DATA_FREE,
            LEAST,
            LOWEST_OF_FEW,
            consensus,
            transform_lead,
        )
        from auditor.inversion.threads import one_thread

        classes = context.classifier.classes
        if not LEAST <= classes <= MAX_CLASSES:
            raise Skipped(f"evidence is compared between {LEAST} to {MAX_CLASSES} classes")
        passes, thin = 0, 1
        if context.samples is not None:
            with one_thread():
                passes, thin = _measure(context, context.samples)
        if thin > 1:
            yield Notice(f"Only one wave in {thin} was tried (time budget).")
        yield Metric("consensus.passes", passes)
        measures = context.evidence.standings
        found = consensus(measures)
        if found is None:
            raise Incomplete("no evidence per class was collected")
        features = {**about(context), **found.features("consensus")}
        free = consensus(measures, DATA_FREE, LOWEST_OF_FEW)
        if free is not None:
            features.update(free.features("data_free.consensus"))
        lead = transform_lead(measures)
        if lead is not None:
            features["transforms.lead"] = lead
        context.evidence.features.update(features)
        yield Metric("features", {k: round(v, 6) for k, v in features.items()})
        yield Metric("consensus.target", found.target)
        yield Metric("consensus.score", round(float(found.scores[found.target]), 4))
        yield Metric("consensus.lead", round(found.lead, 4))
        yield Metric("consensus.clear", round(found.clear, 4))
        yield Metric("per_class", _table(found))
        yield Metric("measures", _measures(measures, classes))


def _measure(context: BehaviourContext, samples: Images) -> tuple[int, int]:
    """Adds slopes and waves on `samples` to the evidence.

    Returns the passes with gradients they took, and of how many waves one was tried.
    """
    import torch

    from auditor.inversion.slopes import IMAGES, slopes

    classifier, standings = context.classifier, context.evidence.standings
    most = max(8, min(IMAGES, _PASSES // classifier.classes))
    few = torch.from_numpy(samples.pixels[: 4 * most]).to(context.device)
    found = slopes(
        classifier.twin_logits,
        few,
        classifier.classes,
        most=most,
        spent=lambda: context.budget.spent,
    )
    if not found.complete:
        raise Incomplete("the time budget ended before every class was measured")
    standings["slope.steep"], standings["slope.alike"] = found.steep, found.alike
    standings["waves"], thin = _waves(context, few)
    return found.passes, thin


def _waves(context: BehaviourContext, few: Tensor) -> tuple[NDArray[np.float64], int]:
    """What waves over `few` images do, and of how many one was tried so that time suffices."""
    import torch

    from auditor.inversion.threads import measured_step
    from auditor.inversion.waves import IMAGES, affordable, waves

    classifier, (height, width) = context.classifier, few.shape[2:]

    def step() -> object:
        with torch.no_grad():
            return classifier.twin_logits(few[:IMAGES])

    with measured_step(step) as seconds:
        thin = affordable(height, width, seconds, _WAVES * context.budget.left)
    laid = waves(
        classifier.twin_logits,
        few,
        classifier.classes,
        thin=thin,
        spent=lambda: context.budget.spent,
    )
    if not laid.complete:
        raise Incomplete("the time budget ended before every wave was tried")
    return laid.excess, thin


def _measures(measures: Mapping[str, NDArray[np.float64]], classes: int) -> list[dict[str, float]]:
    """One row a class: every measure, also those no group adds up; left out where not reached."""
    return [
        {
            "class": k,
            **{name: round(float(v[k]), 5) for name, v in measures.items() if np.isfinite(v[k])},
        }
        for k in range(classes)
    ]


def _table(found: Consensus) -> list[dict[str, float]]:
    return [
        {
            "class": k,
            "sum": round(float(found.scores[k]), 2),
            **{name: round(float(values[k]), 2) for name, values in found.groups.items()},
        }
        for k in range(len(found.scores))
    ]
