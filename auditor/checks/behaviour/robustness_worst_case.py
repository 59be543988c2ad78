"""Accuracy under the worst of four attacks per sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete
from auditor.findings import Metric, Notice, Outcome

if TYPE_CHECKING:
    from auditor.samples.interface import Images


class WorstCaseRobustness(BehaviourCheck):
    """AutoAttack's ensemble: APGD-CE, APGD-DLR targeted, FAB targeted, Square."""

    name = "robustness.worst-case"
    title = "Worst-case robustness"
    doc = (
        "Accuracy under the worst attack per sample out of APGD on cross-entropy, APGD on the "
        "targeted DLR loss, targeted FAB and Square (AutoAttack, Croce and Hein 2020), each on the "
        "samples that all before left standing, counted on the artifact itself. In a scan steps "
        "and queries are fewer than the published 100 and 5,000; the metrics say how many."
    )
    needs = frozenset({"gradients", "samples"})
    order = 64
    weight = 0.8

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.worst-case@<epsilon>`` and which attack broke how many.

        Option ``robustness.attacks`` (``apgd``, ``fab``, ``square``) leaves only those of the
        ensemble; the metrics are then named after them: ``robustness.apgd@<epsilon>``.
        """
        samples = common.given_samples(context)
        common.need_time(context)
        grid, wanted = common.few_epsilons(context), _wanted(context)
        name = common.prefix(f"robustness.{'+'.join(wanted)}" if wanted else self.name, context)
        plan = _Plan(context, wanted)
        cost = common.gradient_seconds(context, samples) * plan.passes * len(grid)
        used = common.affordable(context, samples, cost)
        standing = common.Standing(used)
        for value in grid:
            standing.extend(value, plan.attack)
        yield from common.metrics(name, standing.rows)
        if wanted != ("square",):
            yield Metric(f"{name}.steps", plan.steps)
        if not wanted or "square" in wanted:
            yield Metric(f"{name}.queries", plan.queries)
        yield Metric(f"{name}.broken_by", plan.by)
        title = "Worst-case robustness" if not wanted else f"{' and '.join(wanted)} robustness"
        yield from common.left_out(title, used, samples)
        if not standing.complete:
            rest = f" {', '.join(plan.left_out)} did not run." if plan.left_out else ""
            yield Notice(
                "The worst-case attack was cut short by the time budget: its figure is an upper "
                f"bound.{rest}"
            )


def _wanted(context: BehaviourContext) -> tuple[str, ...]:
    given = context.options.get("robustness.attacks")
    return tuple(str(name) for name in given) if isinstance(given, list | tuple) else ()


class _Plan:
    """The ensemble, or the part of it that was asked for, and what it costs."""

    def __init__(self, context: BehaviourContext, wanted: tuple[str, ...]) -> None:
        self.context, self.wanted = context, wanted
        self.predict = common.twin_function(context)
        self.steps = common.whole_number(context, "worst_case_steps", 30)
        self.queries = common.whole_number(context, "worst_case_queries", 300)
        self.classes = min(9, max(1, context.classifier.classes - 1))
        self.by: dict[str, int] = {}
        self.left_out: tuple[str, ...] = ()
        # Planned for samples that half of the ensemble has to work on.
        self.passes = self.steps * (1 + self.classes) + self.queries / 6

    def attack(self, value: float, samples: Images) -> common.Attacked:
        """The ensemble at epsilon `value`. Raises `Incomplete` when not one attack could start."""
        from auditor.attacks.worst_case import standard_attacks, worst_case

        attacks = standard_attacks(
            value,
            norm=common.norm(self.context),
            steps=self.steps,
            queries=self.queries,
            classes=self.classes,
            restarts=common.whole_number(self.context, "restarts", 1),
        )
        images, labels = common.tensors(self.context, samples)
        outcome = worst_case(
            self.predict,
            images,
            labels,
            [a for a in attacks if not self.wanted or a.name.split("-")[0] in self.wanted],
            seed=self.context.seed,
            batch=common.batch_size(samples),
            stop=lambda: self.context.budget.spent,
        )
        if not outcome.by:
            raise Incomplete("the time budget ended before the first attack")
        for name, count in outcome.by.items():
            self.by[name] = self.by.get(name, 0) + count
        self.left_out = outcome.left_out
        return common.judged(self.context, outcome.result, samples)
