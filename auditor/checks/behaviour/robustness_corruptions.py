"""Accuracy under everyday corruptions at five severities."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.behaviour.pictures import sheet
from auditor.checks.behaviour.robustness_corrupted import CORRUPTIONS, SEVERITIES, Pixels
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete
from auditor.findings import Figure, Metric, Notice, Outcome
from auditor.statistics import wilson


class CorruptionRobustness(BehaviourCheck):
    """Noise, blur, contrast, rotation, translation, JPEG: what happens without an attacker."""

    name = "robustness.corruptions"
    title = "Everyday corruptions"
    doc = (
        "Native accuracy under noise, blur, lost contrast, rotation, translation and JPEG at five "
        "severities, in the manner of Hendrycks and Dietterich (2019), severities scaled to the "
        "image side. It says nothing about attackers, and severities are not comparable with the "
        "published ImageNet-C or MNIST-C figures."
    )
    needs = frozenset({"predictions", "samples"})
    order = 61
    weight = 0.5

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.corruption.<kind>`` (mean over severities), the mean and a table."""
        samples = common.given_samples(context)
        common.need_time(context)
        predictions = len(CORRUPTIONS) * len(SEVERITIES)
        cost = 2 * common.predict_seconds(context, samples) * predictions + 2e-3
        used = common.affordable(context, samples, cost)
        table: list[dict[str, float | int | str]] = []
        rows: list[Pixels] = []
        means = []
        for kind, corrupt in CORRUPTIONS.items():
            if context.budget.spent:
                break
            shares = []
            for severity in SEVERITIES:
                images = corrupt(used.pixels, severity, np.random.default_rng(context.seed))
                right = context.classifier.predict(images).argmax(axis=1) == used.labels
                interval = wilson(int(right.sum()), len(right))
                shares.append(float(right.mean()))
                table.append(
                    {
                        "corruption": kind,
                        "severity": severity,
                        "accuracy": shares[-1],
                        "low": interval.low,
                        "high": interval.high,
                    }
                )
                if severity == 3:
                    rows.append(images[:6])
            means.append(float(np.mean(shares)))
            yield Metric(f"robustness.corruption.{kind}", means[-1])
        if not means:
            raise Incomplete("no time left in the budget")
        if len(means) == len(CORRUPTIONS):
            yield Metric("robustness.corruption.mean", float(np.mean(means)))
        else:
            missing = ", ".join(list(CORRUPTIONS)[len(means) :])
            yield Notice(f"Corruptions not measured (time budget): {missing}.")
        yield Metric("robustness.corruption.n", len(used))
        yield Metric("robustness.corruption.table", table)
        yield from common.left_out("Corruption robustness", used, samples)
        yield Figure("corruptions", "Corruptions at severity 3, one a row", sheet(rows))
