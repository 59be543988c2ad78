"""Activation clustering (Chen et al. 2018) on training data, or on clean and triggered samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Skipped
from auditor.findings import Finding, Metric, Notice, Outcome, Severity
from auditor.samples.interface import Images

_MOST, _FEWEST, _DIMENSIONS = 6000, 20, 10
_SMALL, _SEPARATE, _FOREIGN = 0.5, 0.15, 0.5
_SPREAD = 0.35
_PERSISTS = 0.2

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Split:
    """Two clusters of one class: `small` marks the members of the smaller one."""

    small: NDArray[np.bool_]
    share: float
    silhouette: float
    points: Matrix


@dataclass(frozen=True, slots=True)
class Reclassified:
    """What a probe makes of a small cluster: `foreign` is the share it calls another class,
    `spread` how many classes those are in effect (exponential of the entropy), relative to all
    other classes.
    """

    foreign: float
    spread: float


class ActivationClustering(BehaviourCheck):
    """Two clusters per class in the penultimate activations."""

    name = "clustering"
    title = "Activation clustering"
    doc = (
        "PCA and 2-means per class on penultimate activations (Chen et al. 2018). With "
        "--train-data a class is suspect when a small, well separated cluster exists whose images "
        "a probe, fitted to the larger clusters only, assigns to many other classes (exclusionary "
        "reclassification): a rare way to write a digit looks like one or two other classes, "
        "poisoned images come from all. Poison from a single source class is therefore missed. "
        "Without training data, clean samples are clustered together with triggered ones: that "
        "separates by construction, explains a trigger found elsewhere and raises nothing."
    )
    needs = frozenset({"activations", "samples"})
    default_severity = Severity.MEDIUM
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
    every = training.shuffled(context.seed, _MOST)
    if len(every) < len(training):
        yield Notice(f"Clustering looked at {len(every)} of {len(training)} training samples.")
    activations = context.classifier.features(every.pixels)
    splits: dict[int, Split] = {}
    rng = np.random.default_rng(context.seed)
    members = {int(k): np.flatnonzero(every.labels == k) for k in np.unique(every.labels)}
    for label, index in members.items():
        if len(index) >= _FEWEST:
            splits[label] = split_class(activations[index], context.seed)
    if not splits:
        raise Skipped(f"no class has {_FEWEST} training samples")
    foreign = _reclassified(every, members, splits, context.seed)
    yield Metric("clustering.data", f"training data ({training.source})")
    yield Metric("per_class", [_row(k, s, foreign[k]) for k, s in splits.items()])
    for label, split in splits.items():
        if _suspect(split, foreign[label]):
            lead = _persistence(context, every, members[label], split, label, rng)
            yield Metric(f"clustering.persistence.{label}", lead)
            if lead < _PERSISTS:
                continue
            yield _finding(label, split, foreign[label].foreign, len(members[label]))


def _reclassified(
    every: Images,
    members: dict[int, NDArray[np.int64]],
    splits: dict[int, Split],
    seed: int,
) -> dict[int, Reclassified]:
    """What a probe fitted to the large clusters makes of each small one."""
    from sklearn.linear_model import LogisticRegression

    flat = every.pixels.reshape(len(every), -1)
    small = np.zeros(len(every), dtype=bool)
    for label, split in splits.items():
        small[members[label][split.small]] = True
    large = np.flatnonzero(~small)
    fitted = np.random.default_rng(seed).permutation(large)[:3000]
    if len(np.unique(every.labels[fitted])) < 2:
        return dict.fromkeys(splits, Reclassified(0.0, 0.0))
    probe = LogisticRegression(C=0.1, max_iter=100).fit(flat[fitted], every.labels[fitted])
    result = {}
    for label, split in splits.items():
        mine = members[label][split.small]
        called = probe.predict(flat[mine]) if len(mine) else np.full(1, label)
        result[label] = _spread(called[called != label], len(called), len(members) - 1)
    return result


def _spread(others: NDArray[np.int64], n: int, classes: int) -> Reclassified:
    if not len(others) or classes < 1:
        return Reclassified(0.0, 0.0)
    shares = np.unique(others, return_counts=True)[1] / len(others)
    effective = float(np.exp(-(shares * np.log(shares)).sum()))
    return Reclassified(len(others) / n, effective / classes)


def _suspect(split: Split, probed: Reclassified) -> bool:
    apart = split.share < _SMALL and split.silhouette > _SEPARATE
    return apart and probed.foreign > _FOREIGN and probed.spread > _SPREAD


def _persistence(
    context: BehaviourContext,
    every: Images,
    index: NDArray[np.int64],
    split: Split,
    label: int,
    rng: np.random.Generator,
) -> float:
    """How much better the small cluster keeps its label under superimposed images than the large.

    STRIP's idea (Gao et al. 2019): a trigger survives where a natural shape drowns.
    """
    others = np.flatnonzero(every.labels != label)
    rates = []
    for mine in (index[split.small], index[~split.small]):
        chosen = rng.choice(mine, 200)
        blended = every.pixels[chosen] + every.pixels[rng.choice(others, 200)]
        predicted = context.classifier.labels(np.clip(blended, 0, 1).astype(np.float32))
        rates.append(float((predicted == label).mean()))
    return rates[0] - rates[1]


def _row(label: int, split: Split, probed: Reclassified) -> dict[str, object]:
    return {
        "class": label,
        "small_share": round(split.share, 4),
        "silhouette": round(split.silhouette, 4),
        "reclassified": round(probed.foreign, 4),
        "spread": round(probed.spread, 4),
        "suspect": _suspect(split, probed),
    }


def _finding(label: int, split: Split, foreign: float, n: int) -> Finding:
    return Finding(
        rule="data.poisoned-cluster",
        severity=Severity.HIGH,
        title=f"Training samples labelled {label} hold a foreign cluster",
        evidence=(
            f"{int(split.small.sum())} of {n} samples of class {label} form a cluster of their own "
            f"(silhouette {split.silhouette:.2f}); a probe fitted without them calls {foreign:.0%} "
            "of them another class"
        ),
        why=(
            "Samples of other classes that the model nevertheless learned as this class are what "
            "dirty-label poisoning leaves behind."
        ),
        remedy="Look at these samples, remove them and retrain.",
        target_class=label,
    )


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
