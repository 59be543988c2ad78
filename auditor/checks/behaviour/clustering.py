"""Activation clustering (Chen et al. 2018) on training data, or on clean and triggered samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Metric, Notice, Outcome, Severity
from auditor.samples.interface import Images

_FEWEST, _DIMENSIONS, _FIRST = 200, 10, 200
_TIME, _METHODS = 0.7, 1.2e-3
"""Share of the check's seconds to plan for, and seconds a sample costs besides the model."""

_IN_A_SCAN = ("clustering", "spectral", "spectre", "reclassification", "trigger", "labels")

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Split:
    """Two clusters of one class: `small` marks the members of the smaller one."""

    small: NDArray[np.bool_]
    share: float
    silhouette: float
    points: Matrix


class ActivationClustering(BehaviourCheck):
    """Two clusters per class in the penultimate activations."""

    name = "clustering"
    title = "Activation clustering"
    doc = (
        "With --train-data: the methods of `audit data` on as many samples as the time allows. "
        "Activation clustering (Chen et al. 2018) and spectral signatures propose groups; one is "
        "called poison when a probe that has forgotten it surely sees other classes in it, or when "
        "what its images share sends other images to the class. Blur and warps are only found by "
        "the first, clean-label poison only by the second. "
        "Without training data, clean samples are clustered together with triggered ones: that "
        "separates by construction, explains a trigger found elsewhere and raises nothing."
    )
    needs = frozenset({"activations", "samples"})
    default_severity = Severity.HIGH
    order = 60
    weight = 1.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Cluster what is there, and say which."""
        if context.training is not None:
            yield from _training(context, context.training)
        elif context.evidence.triggers:
            yield from _explain(context)
        else:
            raise Skipped("no training data (--train-data) and no trigger was recovered")


def split_class(activations: Matrix, seed: int) -> Split:
    """PCA to at most 10 dimensions, 2-means, silhouette (on at most 1,000 members)."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    dimensions = min(_DIMENSIONS, *activations.shape)
    points = PCA(dimensions, random_state=seed).fit_transform(activations)
    labels = KMeans(2, n_init=4, random_state=seed).fit_predict(points)
    minority = int(labels.sum() * 2 < len(labels))
    small = labels == minority
    share = float(small.mean())
    quality = 0.0
    if 0 < small.sum() < len(small):
        size = min(1000, len(points))
        quality = float(silhouette_score(points, labels, sample_size=size, random_state=seed))
    return Split(small, share, quality, points.astype(np.float32))


def _training(context: BehaviourContext, training: Images) -> Iterator[Outcome]:
    """The engine of ``audit data``, on what the check's share of the time allows."""
    from auditor.poison.engine import class_rows, examine, methods
    from auditor.poison.interface import Study, Suspects

    classifier = context.classifier
    few = training.take(slice(0, _FIRST))
    before = context.budget.left
    classifier.features(few.pixels)
    second = max((before - context.budget.left) / max(len(few), 1), 1e-6)
    affordable = int(_TIME * context.budget.seconds / (second + _METHODS))
    every = training.shuffled(context.seed, max(_FEWEST, affordable))
    if len(every) < len(training):
        yield Notice(
            f"Looked at {len(every)} of {len(training)} training samples in this check's time; "
            "`audit data` looks at all."
        )
    scores = np.nan_to_num(classifier.predict(every.pixels))
    study = Study(
        Suspects(every.pixels, every.labels, every.classes),
        np.nan_to_num(classifier.features(every.pixels)),
        scores,
        classifier.predict,
        context.seed,
        spent=lambda: context.budget.spent,
    )
    wanted = [m for m in methods()[0] if m.name in _IN_A_SCAN]
    found = examine(study, wanted)
    unfinished = [c for c in found.checks if c.status == "incomplete"]
    if unfinished:
        raise Incomplete(f"{unfinished[0].name}: {unfinished[0].reason}")
    if all(c.status == "skipped" for c in found.checks):
        raise Skipped(found.checks[0].reason)
    yield Metric("clustering.data", f"training data ({training.source})")
    yield Metric("clustering.flagged", int(found.flagged.sum()))
    yield Metric("per_class", [_row(row) for row in class_rows(study, found)])
    for check in found.checks:
        yield from check.findings
        yield from check.figures


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "suspect": row["verdict"] == "poisoned"}


def _explain(context: BehaviourContext) -> Iterator[Outcome]:
    """Clean samples of the target beside triggered ones of other classes, in two dimensions."""
    assert context.samples is not None
    trigger = max(context.evidence.triggers, key=lambda t: t.asr - t.baseline)
    own = context.samples.pixels[context.samples.labels == trigger.target][:150]
    other = context.samples.pixels[context.samples.labels != trigger.target][:150]
    if len(own) < 5 or len(other) < 5:
        raise Skipped("too few samples of the target class to compare with")
    both = np.concatenate([own, trigger.trigger.apply(other)])
    split = split_class(context.classifier.features(both), context.seed)
    triggered = np.arange(len(both)) >= len(own)
    agreement = float(np.mean(split.small == triggered))
    yield Metric("clustering.data", "clean samples of the target class and triggered samples")
    yield Metric("clustering.silhouette", split.silhouette)
    yield Metric("clustering.separation", max(agreement, 1 - agreement))
    points = [
        [round(float(x), 3), round(float(y), 3), int(t)]
        for (x, y), t in zip(split.points[:, :2], triggered, strict=True)
    ]
    yield Metric("scatter", {"points": points, "classes": ["clean, target class", "triggered"]})
