"""A behaviour check: it asks the running classifier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Finding, Metric, Outcome, Severity

FACTORS = (0.6, 0.8, 1.0, 1.2, 1.4)
LARGEST_DROP = 0.2
BATCH = 64


class Brightness(BehaviourCheck):
    """Accuracy when the light changes: brightness scaled by 0.6 to 1.4."""

    name = "example.brightness"
    title = "Brightness"
    doc = "Scales pixel values and measures accuracy. Says nothing about shadows or colour casts."
    needs = frozenset({"predictions", "samples"})
    default_severity = Severity.LOW
    weight = 0.3

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield accuracy by factor (drawn by every report as a curve), and a finding for a drop."""
        if context.samples is None:
            raise Skipped("needs labelled samples")
        samples = context.samples.take(slice(0, 200))
        accuracies: dict[float, float] = {}
        for factor in FACTORS:
            if context.budget.spent:
                break
            bright = np.clip(samples.pixels * factor, 0, 1).astype(np.float32)
            parts = [bright[i : i + BATCH] for i in range(0, len(bright), BATCH)]
            predicted = np.concatenate([context.classifier.predict(p).argmax(1) for p in parts])
            accuracy = float((predicted == samples.labels).mean())
            accuracies[factor] = accuracy
            yield Metric(f"example.brightness@{factor}", accuracy)
        if not accuracies:
            raise Incomplete("no time left in the budget")
        yield Metric("example.brightness.curve", [[f, a] for f, a in accuracies.items()])
        worst = min(accuracies, key=accuracies.__getitem__)
        drop = accuracies.get(1.0, 0.0) - accuracies[worst]
        if drop > LARGEST_DROP:
            yield Finding(
                rule="example.brightness",
                severity=self.default_severity,
                title=f"Accuracy falls by {100 * drop:.0f} points when brightness changes",
                evidence=f"accuracy {accuracies[worst]:.1%} at brightness {worst}",
                why="Cameras and weather change brightness by more than this.",
                remedy="Train with brightness augmentation.",
            )
