"""Certified accuracy: a lower bound of the true robust accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from auditor.checks.behaviour import robustness_common as common
from auditor.checks.interface import BehaviourCheck, BehaviourContext
from auditor.findings import Metric, Notice, Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.bounds.certify import Certifier
    from auditor.samples.interface import Images

_GREY, _COLOUR = (0.01, 0.03, 0.1), (1 / 255, 2 / 255, 8 / 255)
_SIGMA = 0.1
_GROUP = 4
"""Batches of the certifier that are attacked together before the rest is bounded."""
_ATTACK_STEPS = 12


class CertifiedRobustness(BehaviourCheck):
    """CROWN bounds for feed-forward networks; randomized smoothing for all else, or on request.

    Option ``robustness.sigma`` asks for smoothing with noise of that standard deviation.
    """

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
    weight = 0.6

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Yield ``robustness.certificate@<epsilon>``, or ``robustness.smoothed@<radius>``."""
        from auditor.bounds.certify import Certifier
        from auditor.bounds.graph import Unsupported

        samples, function = common.given_samples(context), common.twin_function(context)
        attacked = int(context.evidence.features.get("robustness.pgd.n", len(samples)))
        samples = samples.take(slice(0, attacked))
        common.need_time(context)
        if "robustness.sigma" in context.options:
            yield from _smoothing(context, samples)
            return
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
        proven = {m: np.zeros((len(grid), len(samples)), bool) for m in ("crown", "interval")}
        done = 0
        while done < len(samples) and not (done and context.budget.spent):
            # The first group is small, so that there is a figure however slow the network is.
            group = certifier.batch * (_GROUP if done else 1)
            part = np.arange(done, min(done + group, len(samples)))
            standing = dict.fromkeys(proven, part[right[part]])
            for row, value in enumerate(grid):
                open_ = _unbroken(context, certifier, images, labels, standing["crown"], value)
                for method, table in proven.items():
                    # What fails at a smaller epsilon fails at a larger one; what an attack breaks
                    # needs no bound.
                    asked = np.intersect1d(standing[method], open_)
                    found = certifier.certify(
                        images[asked],
                        labels[asked],
                        value,
                        method=method,
                        refine=lambda: not context.budget.spent,
                    )
                    standing[method] = asked[found.certified.numpy()]
                    table[row, standing[method]] = True
            done = int(part[-1]) + 1
        rows = _rows(grid, proven["crown"][:, :done])
        yield from common.metrics(self.name, rows)
        yield Metric("robustness.certificate.interval", _rows(grid, proven["interval"][:, :done]))
        yield Metric("robustness.certificate.margin", margin)
        yield from common.left_out("The certificate", samples.take(slice(0, done)), samples)
        if context.budget.spent:
            yield Notice("The last bounds of the certificate were not refined (time budget).")


def _unbroken(
    context: BehaviourContext,
    certifier: Certifier,
    images: Tensor,
    labels: Tensor,
    index: NDArray[np.int64],
    value: float,
) -> NDArray[np.int64]:
    """Those of `index` that a short attack leaves right: bounds cost a hundred times as much."""
    from auditor.attacks.pgd import PGD

    attack = PGD(value, steps=_ATTACK_STEPS, loss="margin")
    found = attack(certifier.function, images[index], labels[index], seed=context.seed)
    standing: NDArray[np.int64] = index[~found.fooled.cpu().numpy()]
    return standing


def _rows(grid: tuple[float, ...], table: NDArray[np.bool_]) -> list[dict[str, float | int]]:
    return [common.accuracy_row(value, row) for value, row in zip(grid, table, strict=True)]


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
