"""Certified accuracy: a lower bound of the true robust accuracy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext
from auditor.findings import Metric, Notice, Outcome

if TYPE_CHECKING:
    from auditor.bounds.certify import Certifier
    from auditor.samples.interface import Images

_GREY, _COLOUR = (0.01, 0.03, 0.1), (1 / 255, 2 / 255, 8 / 255)
_SIGMA = 0.1


class CertifiedRobustness(BehaviourCheck):
    """CROWN bounds for feed-forward networks; randomized smoothing for everything else."""

    name = "robustness.certificate"
    title = "Certified robustness"
    doc = (
        "Share of samples whose prediction provably cannot change within epsilon (L-inf, image "
        "units 0..1): interval bounds (Gowal et al. 2019) and CROWN (Zhang et al. 2018) on the "
        "twin, in float64, counted only above ten times the float32 rounding measured. A lower "
        "bound: the truth lies between it and the attacks. For networks with operators that have "
        "no bound, randomized smoothing (Cohen et al. 2019) certifies the smoothed model instead."
    )
    needs = frozenset({"gradients", "samples"})
    order = 66
    weight = 1.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.certificate@<epsilon>``, or ``robustness.smoothed@<radius>``."""
        from auditor.bounds.certify import Certifier
        from auditor.bounds.graph import Unsupported

        samples, function = common.given_samples(context), common.twin_function(context)
        common.need_time(context)
        images, _ = common.tensors(context, samples.take(slice(0, 2)))
        try:
            certifier = Certifier(function, images)
        except Unsupported as reason:
            yield Notice(
                f"No certificate of the model itself: {reason} has no bound. Randomized smoothing "
                "was used, which certifies the majority vote under noise instead."
            )
            yield from _smoothing(context, samples)
            return
        yield from self._certify(context, certifier, samples)

    def _certify(
        self, context: BehaviourContext, certifier: Certifier, samples: Images
    ) -> Iterator[Outcome]:
        grid = common.epsilons(context, _GREY if samples.pixels.shape[1] == 1 else _COLOUR)
        images, labels = common.tensors(context, samples)
        margin = certifier.measure_margin(images[:64])
        # Natively wrong samples cannot count: the twin may disagree on a hair.
        right = context.classifier.predict(samples.pixels).argmax(axis=1) == samples.labels
        first = slice(0, certifier.batch)
        started = time.perf_counter()
        largest = certifier.certify(
            images[first], labels[first], grid[-1], stop=lambda: context.budget.spent
        )
        seconds = (time.perf_counter() - started) / len(largest.bound)
        used = common.affordable(context, samples, seconds * len(grid), share=0.85)
        rows: list[dict[str, float | int]] = []
        interval_rows: list[dict[str, float | int]] = []
        standing = np.arange(len(used))
        for value in grid:
            if context.budget.spent and rows:
                break
            found = np.zeros(len(used), dtype=bool)
            cheap = np.zeros(len(used), dtype=bool)
            # What fails at a smaller epsilon fails at a larger one.
            part = certifier.certify(
                images[standing], labels[standing], value, stop=lambda: context.budget.spent
            )
            if not part.complete:
                if rows:
                    break
                yield Notice(
                    "The certificate was cut short by the time budget: samples not reached count "
                    "as not certified."
                )
            found[standing] = part.certified.numpy()
            quick = certifier.certify(images[standing], labels[standing], value, method="interval")
            cheap[standing] = quick.certified.numpy()
            rows.append(common.accuracy_row(value, found & right[: len(used)]))
            interval_rows.append(common.accuracy_row(value, cheap & right[: len(used)]))
            standing = np.flatnonzero(found)
        yield from common.metrics(self.name, rows)
        yield Metric("robustness.certificate.interval", interval_rows)
        yield Metric("robustness.certificate.margin", margin)
        yield from common.left_out("The certificate", used, samples)
        if len(rows) < len(grid):
            missing = ", ".join(common.tag(value) for value in grid[len(rows) :])
            yield Notice(f"The certificate: epsilon {missing} not measured (time budget).")


def _smoothing(context: BehaviourContext, samples: Images) -> Iterator[Outcome]:
    from auditor.bounds.smoothing import smooth

    sigma = float(context.options.get("robustness.sigma", _SIGMA))
    draws = common.whole_number(context, "draws", 500)
    cost = common.predict_seconds(context, samples) * (draws + 50)
    used = common.affordable(context, samples, cost)
    found = smooth(context.classifier.predict, used.pixels, sigma, draws=draws, seed=context.seed)
    right = found.votes == used.labels
    for share in (0.0, 0.5, 1.0):
        radius = share * sigma
        certified = right & (found.radius > radius)
        yield Metric(f"robustness.smoothed@{common.tag(radius)}", float(certified.mean()))
    yield Metric("robustness.smoothed.sigma", sigma)
    yield Metric("robustness.smoothed.n", len(used))
    yield Metric("robustness.smoothed.abstained", float((found.votes < 0).mean()))
    yield from common.left_out("Randomized smoothing", used, samples)
