"""Robust accuracy under PGD: curve, classes, smallest perturbations, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete
from auditor.findings import Figure, Finding, Metric, Notice, Outcome, Severity

if TYPE_CHECKING:
    from auditor.attacks.interface import Predict
    from auditor.samples.interface import Images

_HALVINGS = 8


class PgdRobustness(BehaviourCheck):
    """Projected gradient attack over the grid; a sample broken once stays broken."""

    name = "robustness.pgd"
    title = "PGD robustness"
    doc = (
        "Accuracy under projected gradient descent (Madry et al. 2018), L-inf, random start, "
        "with cross-entropy and then, on what still stands, with the margin loss (Carlini and "
        "Wagner 2017), counted on the artifact itself. Broken at a small epsilon means broken at "
        "every larger one. An upper bound of the true robust accuracy: see the certificate for the "
        "lower one and the masking check for whether to trust it."
    )
    needs = frozenset({"gradients", "samples"})
    order = 62
    weight = 0.8

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.pgd@<epsilon>``, classes, quantiles, a finding and a picture."""
        samples, predict = common.given_samples(context), common.twin_function(context)
        common.need_time(context)
        grid = common.epsilons(context)
        steps = common.whole_number(context, "steps", 40)
        # Early leaving makes most samples cheap; half of the worst case is what is planned for.
        tries = steps * common.whole_number(context, "restarts", 1)
        cost = common.gradient_seconds(context, samples) * (0.75 * tries * len(grid) + 10)
        used = common.affordable(context, samples, cost)
        curve = _Curve(context, predict, used, steps)
        for value in grid:
            if not curve.extend(value):
                break
        if not curve.rows:
            raise Incomplete("the time budget ended before the first epsilon was measured")
        # The certificate takes the same samples, so that both bounds can be compared.
        context.evidence.features["robustness.pgd.n"] = float(len(used))
        yield from common.metrics(common.prefix(self.name, context), curve.rows)
        yield from common.left_out("PGD robustness", used, samples)
        if len(curve.rows) < len(grid):
            missing = ", ".join(common.tag(value) for value in grid[len(curve.rows) :])
            yield Notice(f"PGD robustness: epsilon {missing} not measured (time budget).")
        yield Metric(f"{common.prefix(self.name, context)}.per_class", curve.classes)
        yield from _smallest(context, curve, used)
        yield from _summary(context, curve)
        if curve.broken.any():
            picture = common.example_picture(used.pixels[curve.broken], curve.images[curve.broken])
            yield Figure("pgd-examples", "Clean, adversarial, difference amplified", picture)


class _Curve:
    """The attack epsilon by epsilon on the samples still right."""

    def __init__(
        self, context: BehaviourContext, predict: Predict, samples: Images, steps: int
    ) -> None:
        self.context, self.predict, self.samples, self.steps = context, predict, samples, steps
        self.right = context.classifier.predict(samples.pixels).argmax(axis=1) == samples.labels
        self.clean = float(self.right.mean())
        self.images = samples.pixels.copy()
        self.broken: NDArray[np.bool_] = np.zeros(len(samples), dtype=bool)
        self.rows: list[dict[str, float | int]] = []
        self.classes: list[dict[str, object]] = []

    def extend(self, value: float) -> bool:
        """Attack at `value`; False when the budget ended first (nothing is recorded then)."""
        from auditor.attacks.pgd import PGD

        right = self.right.copy()
        norm = common.norm(self.context)
        restarts = common.whole_number(self.context, "restarts", 1)
        for attack in (
            PGD(value, norm, steps=self.steps, restarts=restarts),
            PGD(value, norm, steps=max(1, self.steps // 2), restarts=restarts, loss="margin"),
        ):
            index = np.flatnonzero(right)
            if not len(index):
                break
            outcome = common.attacked(self.context, attack, self.predict, self.samples.take(index))
            if not outcome.complete:
                return False
            self.images[index[~outcome.right]] = outcome.pixels[~outcome.right]
            right[index] = outcome.right
        self.broken |= self.right & ~right
        self.right = right
        self.rows.append(common.accuracy_row(value, right))
        rows = common.by_class(self.samples, right)
        self.classes.append({"epsilon": value, "classes": rows})
        return True


def _smallest(context: BehaviourContext, curve: _Curve, samples: Images) -> Iterator[Outcome]:
    """Quantiles of the smallest perturbation found: bisection from the clean image outwards.

    Samples that were never broken count as larger than the grid.
    """
    broken = np.flatnonzero(curve.broken)
    judged = round(curve.clean * len(samples))
    if not len(broken) or not judged:
        return
    clean, change = samples.pixels[broken], curve.images[broken] - samples.pixels[broken]
    low, high = np.zeros(len(broken), np.float32), np.ones(len(broken), np.float32)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        trial = (clean + middle[:, None, None, None] * change).astype(np.float32)
        wrong = context.classifier.predict(trial).argmax(axis=1) != samples.labels[broken]
        high, low = np.where(wrong, middle, high), np.where(wrong, low, middle)
    order = np.inf if common.norm(context) == "linf" else 2
    lengths = np.sort(high * np.linalg.norm(change.reshape(len(broken), -1), order, axis=1))
    for share in (0.1, 0.25, 0.5):
        position = int(np.ceil(share * judged)) - 1
        if 0 <= position < len(lengths):
            name = f"{common.prefix('robustness.pgd', context)}.perturbation.q{round(share * 100)}"
            yield Metric(name, float(lengths[position]))


def _summary(context: BehaviourContext, curve: _Curve) -> Iterator[Outcome]:
    """One info finding that says in words how little it takes."""
    low = next((r for r in curve.rows if r["accuracy"] < 0.5 * curve.clean), None)
    if low is None:
        return
    value, share = float(low["epsilon"]), float(low["accuracy"])
    measure = "per pixel" if common.norm(context) == "linf" else "in L2"
    yield Finding(
        rule="robustness.low",
        severity=Severity.INFO,
        title=f"Changes of at most {common.tag(value)} {measure} break the model",
        evidence=(
            f"accuracy {curve.clean:.1%} falls to {share:.1%} under PGD at epsilon "
            f"{common.tag(value)} (n = {low['n']}, 95 % interval {low['low']:.1%} to "
            f"{low['high']:.1%}; epsilon in 0..1 image units)"
        ),
        why="Somebody who can alter the input a little can choose the output. Ordinary training "
        "gives every model this weakness.",
        remedy="Where inputs come from strangers, use an adversarially trained model, or set a "
        "threshold in a policy.",
    )
