"""Accuracy under FGSM over a grid of epsilons."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext
from auditor.findings import Notice, Outcome


class FgsmRobustness(BehaviourCheck):
    """One-step attack: the quickest figure, an upper bound of the true robust accuracy."""

    name = "robustness.fgsm"
    title = "FGSM robustness"
    doc = (
        "Accuracy after one step of size epsilon along the sign of the gradient (Goodfellow, "
        "Shlens, Szegedy 2015), through the differentiable twin, counted on the artifact itself. "
        "Epsilon is in 0..1 image units, before the model's preprocessing. Samples that are wrong "
        "without any attack count as wrong. One step is a weak attack: high values prove little."
    )
    needs = frozenset({"gradients", "samples"})
    order = 60
    weight = 0.5

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.fgsm@<epsilon>`` over the grid."""
        from auditor.attacks.fgsm import FGSM

        samples, predict = common.given_samples(context), common.twin_function(context)
        common.need_time(context)
        grid, norm = common.epsilons(context), common.norm(context)
        cost = common.gradient_seconds(context, samples) * 2 * len(grid)
        used = common.affordable(context, samples, cost)
        rows: list[dict[str, float | int]] = []
        for value in grid:
            # The first epsilon is always measured: it may overrun, but there is a figure.
            if rows and context.budget.spent:
                break
            outcome = common.attacked(context, FGSM(value, norm), predict, used)
            if not outcome.complete and rows:
                break
            rows.append(common.accuracy_row(value, outcome.right))
        yield from common.metrics(common.prefix(self.name, context), rows)
        yield from common.left_out("FGSM robustness", used, samples)
        if len(rows) < len(grid):
            missing = ", ".join(common.tag(value) for value in grid[len(rows) :])
            yield Notice(f"FGSM robustness: epsilon {missing} not measured (time budget).")
