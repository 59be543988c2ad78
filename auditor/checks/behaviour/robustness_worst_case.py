"""Accuracy under the worst of four attacks per sample."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete
from auditor.findings import Metric, Notice, Outcome


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
    weight = 1.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.worst-case@<epsilon>`` and which attack broke how many."""
        from auditor.attacks.worst_case import standard_attacks, worst_case

        samples, predict = common.given_samples(context), common.twin_function(context)
        common.need_time(context)
        value = common.epsilon(context)
        steps = common.whole_number(context, "worst_case_steps", 30)
        queries = common.whole_number(context, "worst_case_queries", 300)
        classes = min(9, max(1, context.classifier.classes - 1))
        # Planned for samples that half of the ensemble has to work on.
        passes = steps * (1 + classes) + queries / 6
        cost = common.gradient_seconds(context, samples) * passes
        used = common.affordable(context, samples, cost)
        images, labels = common.tensors(context, used)
        attacks = standard_attacks(value, steps=steps, queries=queries, classes=classes)
        outcome = worst_case(
            predict,
            images,
            labels,
            attacks,
            seed=context.seed,
            batch=common.batch_size(used),
            stop=lambda: context.budget.spent,
        )
        if not outcome.by:
            raise Incomplete("the time budget ended before the first attack")
        right = common.judged(context, outcome.result, used).right
        yield from common.metrics(self.name, [common.accuracy_row(value, right)])
        yield Metric("robustness.worst-case.steps", steps)
        yield Metric("robustness.worst-case.queries", queries)
        yield Metric("robustness.worst-case.broken_by", dict(outcome.by))
        yield from common.left_out("Worst-case robustness", used, samples)
        if not outcome.result.complete:
            rest = f" {', '.join(outcome.left_out)} did not run." if outcome.left_out else ""
            yield Notice(
                "The worst-case attack was cut short by the time budget: its figure is an upper "
                f"bound.{rest}"
            )
