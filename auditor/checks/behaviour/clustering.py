"""Activation clustering (Chen et al. 2018) on training data, or on clean and triggered samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.checks.interface import BehaviourCheck, BehaviourContext, Skipped
from auditor.findings import Finding, Metric, Notice, Outcome, Severity
from auditor.samples.interface import Images

_MOST, _FEWEST, _DIMENSIONS = 6000, 20, 10
_SEPARATE, _SPREAD, _SURE = 0.15, 0.6, 0.5
_PERSISTS, _SUPERIMPOSED = 0.2, 200

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
    """What a probe would call a cluster if not by its label: how sure it is on average, and over
    how many classes it spreads (exponential of the entropy, relative to all other classes).
    """

    sureness: float
    spread: float


class ActivationClustering(BehaviourCheck):
    """Two clusters per class in the penultimate activations."""

    name = "clustering"
    title = "Activation clustering"
    doc = (
        "PCA and 2-means per class on penultimate activations (Chen et al. 2018). With "
        "--train-data a class is suspect when one of its clusters keeps the label under "
        "superimposed images (STRIP, Gao et al. 2019) and a linear probe, asked for its second "
        "choice, spreads it over most other classes: a rare way to write a digit looks like one or "
        "two other classes, poisoned images come from all. Poison from a single source class is "
        "therefore missed, and so is a trigger that superimposing destroys (blur, warp). "
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
    leads = {
        label: _lead(context, every, members[label], split, label, rng)
        for label, split in splits.items()
    }
    held = {
        label: members[label][split.small if leads[label] >= 0 else ~split.small]
        for label, split in splits.items()
    }
    probed = _reclassified(every, held, context.seed)
    yield Metric("clustering.data", f"training data ({training.source})")
    rows = [_row(k, s, probed[k], abs(leads[k]), len(held[k])) for k, s in splits.items()]
    yield Metric("per_class", rows)
    for row in rows:
        if row["suspect"]:
            label = int(row["class"])
            yield _finding(label, splits[label], row, len(members[label]))


def _reclassified(
    every: Images, held: dict[int, NDArray[np.int64]], seed: int
) -> dict[int, Reclassified]:
    """What else a linear probe of the images would call each held cluster.

    Its own class is struck from the probe's answer, so that poison left in the rest, which taught
    the probe the trigger, cannot hide the poison that is held.
    """
    from sklearn.linear_model import LogisticRegression

    flat = every.pixels.reshape(len(every), -1)
    fitted = np.random.default_rng(seed).permutation(len(every))[:3000]
    known = np.unique(every.labels[fitted])
    if len(known) < 3:
        return dict.fromkeys(held, Reclassified(0.0, 0.0))
    probe = LogisticRegression(C=0.1, max_iter=100).fit(flat[fitted], every.labels[fitted])
    result = {}
    for label, mine in held.items():
        chances = probe.predict_proba(flat[mine])
        chances[:, known == label] = 0.0
        chances /= chances.sum(axis=1, keepdims=True)
        shares = np.bincount(chances.argmax(axis=1), minlength=len(known)) / len(mine)
        seen = shares[shares > 0]
        effective = float(np.exp(-(seen * np.log(seen)).sum()))
        result[label] = Reclassified(
            float(chances.max(axis=1).mean()), effective / (len(known) - 1)
        )
    return result


def _lead(
    context: BehaviourContext,
    every: Images,
    index: NDArray[np.int64],
    split: Split,
    label: int,
    rng: np.random.Generator,
) -> float:
    """How much better the small cluster keeps its label under superimposed images than the large.

    STRIP's idea (Gao et al. 2019): a trigger survives where a natural shape drowns. Negative when
    the large cluster keeps it better: poison can outnumber the class's own samples.
    """
    others = np.flatnonzero(every.labels != label)
    rates = []
    for mine in (index[split.small], index[~split.small]):
        if not len(mine):
            return 0.0
        chosen = rng.choice(mine, _SUPERIMPOSED)
        blended = every.pixels[chosen] + every.pixels[rng.choice(others, _SUPERIMPOSED)]
        predicted = context.classifier.labels(np.clip(blended, 0, 1).astype(np.float32))
        rates.append(float((predicted == label).mean()))
    return rates[0] - rates[1]


def _row(label: int, split: Split, probed: Reclassified, lead: float, count: int) -> dict[str, Any]:
    apart = split.silhouette > _SEPARATE and lead > _PERSISTS
    return {
        "class": label,
        "cluster": count,
        "silhouette": round(split.silhouette, 4),
        "persistence_lead": round(lead, 4),
        "second_choice": round(probed.sureness, 4),
        "spread": round(probed.spread, 4),
        "suspect": apart and probed.spread > _SPREAD and probed.sureness > _SURE,
    }


def _finding(label: int, split: Split, row: dict[str, Any], n: int) -> Finding:
    return Finding(
        rule="data.poisoned-cluster",
        severity=Severity.HIGH,
        title=f"Training samples labelled {label} hold a foreign cluster",
        evidence=(
            f"{row['cluster']} of {n} samples of class {label} form a cluster of their own "
            f"(silhouette {split.silhouette:.2f}); a linear probe's second choice spreads over "
            f"{row['spread']:.0%} of the other classes, and under superimposed images they keep "
            f"the label {row['persistence_lead']:.0%} more often than the other cluster"
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
