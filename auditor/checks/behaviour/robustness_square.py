"""Accuracy under the Square attack: queries to the artifact itself, no gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext
from auditor.findings import Metric, Notice, Outcome

if TYPE_CHECKING:
    from auditor.samples.interface import Images


class SquareRobustness(BehaviourCheck):
    """What an attacker who only sees scores can do; works without a twin."""

    name = "robustness.square"
    title = "Query-only robustness (Square)"
    doc = (
        "Accuracy under the Square attack (Andriushchenko et al. 2020), L-inf, by queries to the "
        "native runtime. Few queries are a weak attack; what it breaks is broken for certain, "
        "whatever the gradients are."
    )
    needs = frozenset({"predictions", "samples"})
    order = 63
    weight = 0.5

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.square@<epsilon>``, at one epsilon unless told otherwise."""
        from auditor.attacks.square import Square

        samples = common.given_samples(context)
        common.need_time(context)
        queries = common.whole_number(context, "queries", 500)
        grid, native = common.few_epsilons(context), common.native_function(context)
        cost = common.predict_seconds(context, samples) * queries * len(grid)
        used = common.affordable(context, samples, cost)
        standing = common.Standing(used)

        def attempt(value: float, part: Images) -> common.Attacked:
            return common.attacked(context, Square(value, queries=queries), native, part)

        for value in grid:
            standing.extend(value, attempt)
        yield from common.metrics(self.name, standing.rows)
        yield Metric("robustness.square.queries", queries)
        yield from common.left_out("Square robustness", used, samples)
        if not standing.complete:
            yield Notice("Square was cut short by the time budget: its figure is an upper bound.")
