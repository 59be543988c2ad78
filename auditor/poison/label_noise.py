"""Wrong labels by cross-validated confidence (confident learning: Northcutt et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.poison.interface import Floats, Labels, Method, NotApplicable, Result, Study, nothing

SURE = 0.5
"""Least posterior chance that the label is an accident."""

_TEMPERATURES = np.geomspace(0.02, 0.5, 24)
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """`rate`: share of labels drawn at random, as fitted together with the `temperature`."""

    rate: float
    temperature: float


class LabelNoise(Method):
    """Flags samples that cross-validation surely calls something else."""

    name = "labels"
    title = "Wrong labels (confident learning)"
    doc = (
        "Every sample is scored by a classifier that never saw it (cross-validation on our own "
        "features), as in confident learning (Northcutt et al. 2021), whose confident joint is "
        "reported: samples where another class reaches its usual confidence. Ambiguous images do "
        "too, so the share of random labels is fitted together with the classifier's temperature, "
        "and only samples more likely random than ambiguous are flagged. Flips between look-alike "
        "classes stay below that; a set where most labels are wrong cannot be judged."
    )
    order = 60

    def run(self, study: Study) -> Result:
        """Flag, and suggest the class cross-validation gives."""
        classes = np.unique(study.labels)
        if len(classes) < 2:
            raise NotApplicable("there is a single class, so no label can be wrong within the set")
        if len(study.labels) < 10 * len(classes):
            raise NotApplicable(
                f"{len(study.labels)} samples of {len(classes)} classes are too few to "
                "cross-validate"
            )
        score, flagged = nothing(study)
        scores = cross_validated(study)
        honest = np.ones(len(study.labels), bool)
        for confirmed in study.confirmed.values():
            honest[confirmed.members] = False  # poison is no accident and would count as one
        fit = fit_noise(scores[honest], study.labels[honest])
        chances = softmax(scores.astype(np.float64) / fit.temperature)
        posterior = error_chance(chances, study.labels, fit.rate)
        best = chances.argmax(axis=1)
        joint = confident(chances, study.labels)
        flagged[:] = (posterior > SURE) & (best != study.labels)
        score[:] = posterior
        agreement = float((best == study.labels).mean())
        if agreement < 2.0 / len(classes) or agreement < 0.3:
            flagged[:] = False
            raise NotApplicable(
                f"cross-validation agrees with only {agreement:.0%} of the labels, too few to "
                "tell wrong ones from hard ones"
            )
        return Result(
            score,
            flagged,
            "label disagrees with what it shows",
            suggested=np.where(flagged, best, -1),
            metrics={
                "labels.noise_rate": fit.rate,
                "labels.cross_validated_accuracy": agreement,
                "labels.confident_joint": int(joint.sum()),
                "labels.flagged": int(flagged.sum()),
            },
        )


def cross_validated(study: Study) -> Floats:
    """Scores (N, K) by fits that saw neither the sample's fold nor confirmed poison."""
    known = [c.members for c in study.confirmed.values()]
    if not known:
        return study.probe().held_out
    return study.probe().without_held_out(np.unique(np.concatenate(known)))


def fit_noise(scores: Floats, labels: Labels) -> NoiseFit:
    """The likeliest temperature and rate of random labels.

    Likelihood of a label: ``(1 - rate) softmax(scores / temperature) + rate / (K - 1)`` over the
    other classes; the rate by expectation maximisation at each temperature.
    """
    best: tuple[float, float, float] | None = None
    some = np.random.default_rng(0).permutation(len(labels))[:20_000]
    few, given = scores[some].astype(np.float64), labels[some]
    for temperature in _TEMPERATURES:
        own = softmax(few / temperature)[np.arange(len(given)), given]
        wrong = (1 - own) / max(few.shape[1] - 1, 1)
        rate = 0.05
        for _ in range(_ROUNDS):
            rate = float((rate * wrong / ((1 - rate) * own + rate * wrong + 1e-300)).mean())
        likelihood = float(np.log((1 - rate) * own + rate * wrong + 1e-300).mean())
        if best is None or likelihood > best[0]:
            best = (likelihood, float(temperature), rate)
    assert best is not None
    return NoiseFit(best[2], best[1])


def error_chance(chances: NDArray[np.float64], labels: Labels, rate: float) -> Floats:
    """Posterior (N,) that the label is random."""
    own = chances[np.arange(len(labels)), labels]
    wrong = rate * (1 - own) / max(chances.shape[1] - 1, 1)
    return np.asarray(wrong / ((1 - rate) * own + wrong + 1e-300), np.float32)


def confident(chances: NDArray[np.float64], labels: Labels) -> NDArray[np.bool_]:
    """Off the diagonal of the confident joint: another class at its usual confidence."""
    usual = np.full(chances.shape[1], np.inf)
    for k in np.unique(labels):
        usual[k] = chances[labels == k, k].mean()
    above = chances >= usual
    best = np.where(above, chances, -1.0).argmax(axis=1)
    return np.asarray(above.any(axis=1) & (best != labels))


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis."""
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result
