"""Find the preprocessing under which the model is most accurate on labelled samples.

Successive halving over `candidates`: every candidate on a few samples, the better half on twice as
many. Ties in accuracy (within two standard errors) are broken by the mean log-likelihood of the
true label, then by how common the preprocessing is. Two, because networks of ReLUs are nearly
indifferent to scale: fed 255 times too much they may even be a little more accurate, and far too
sure, which the likelihood sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auditor.samples import candidates
from auditor.samples.interface import Images
from auditor.samples.preprocessing import Overrides, Preprocessing

Scores = NDArray[np.float32]
Predict = Callable[[Preprocessing, NDArray[np.float32]], Scores]
"""Class scores (N, K) of images under a preprocessing; raises when the model refuses the input."""

_FIRST, _MOST = 24, 384
_ODDNESS = 0.03
_TIE = 2.0
"""Standard errors of the best accuracy within which candidates count as equally accurate."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate's result on `n` samples."""

    preprocessing: Preprocessing
    accuracy: float
    likelihood: float
    n: int


@dataclass(frozen=True, slots=True)
class Inference:
    """`best`, and the `runner_up` if there was one.

    `permutation` is set when the samples' labels are in another order than the model's: entry ``i``
    is the model's class for label ``i``; accuracies then hold under it.
    """

    best: Trial
    runner_up: Trial | None
    tried: int
    near_chance: bool
    permutation: tuple[int, ...] | None = None


class NoInputFits(Exception):
    """No candidate input was accepted by the model; the message holds its last complaint."""


def infer(
    shape: candidates.Shape | None,
    samples: Images,
    predict: Predict,
    overrides: Overrides,
    *,
    spent: Callable[[], bool] = lambda: False,
) -> Inference:
    """Choose a preprocessing for a native input of `shape` by accuracy on `samples`.

    `spent` is asked between candidates; when it says so, what was measured so far decides. Raises
    `NoInputFits` when the model accepts none of the candidates.
    """
    usable = _usable_geometries(shape, samples, predict, overrides)
    pool = [p for g in usable for p in candidates.with_values(g, overrides, samples.stored_range)]
    ranked = _halving(pool, samples, predict, spent)
    permutation = None
    if _near_chance(ranked[0], samples):
        relabelled = _best_relabelled(pool, samples, predict)
        if relabelled is not None:
            matched, permutation = relabelled
            ranked = _halving(pool, matched, predict, spent)
    runner_up = ranked[1] if len(ranked) > 1 else None
    return Inference(ranked[0], runner_up, len(pool), _near_chance(ranked[0], samples), permutation)


def _halving(
    pool: Sequence[Preprocessing], samples: Images, predict: Predict, spent: Callable[[], bool]
) -> list[Trial]:
    n = min(_FIRST, len(samples))
    trials = [_try(p, samples.take(slice(0, n)), predict) for p in pool]
    while n < min(_MOST, len(samples)) and not spent():
        n = min(4 * n, _MOST, len(samples))
        kept = _ranked(trials)[: max(3, len(trials) // 4)]
        trials = [_try(t.preprocessing, samples.take(slice(0, n)), predict) for t in kept]
    return _ranked(trials)


def _near_chance(trial: Trial, samples: Images) -> bool:
    chance = 1 / max(2, samples.count_classes)
    return bool(trial.accuracy < chance + 3 * (chance * (1 - chance) / trial.n) ** 0.5)


def _best_relabelled(
    pool: Sequence[Preprocessing], samples: Images, predict: Predict
) -> tuple[Images, tuple[int, ...]] | None:
    """The samples under the relabelling that makes the model accurate, if there is one."""
    if len(samples) < 5 * samples.count_classes:
        return None
    few = samples.take(slice(0, _MOST))
    for preprocessing in pool:
        try:
            scores = predict(preprocessing, few.pixels)
        except Exception:
            continue
        permutation = match_labels(scores, few.labels)
        if permutation is not None:
            return relabel(samples, permutation), permutation
    return None


def relabel(samples: Images, permutation: tuple[int, ...]) -> Images:
    """`samples` with label ``i`` replaced by ``permutation[i]``."""
    return replace(samples, labels=np.asarray(permutation, dtype=np.int64)[samples.labels])


def _usable_geometries(
    shape: candidates.Shape | None, samples: Images, predict: Predict, overrides: Overrides
) -> list[Preprocessing]:
    """The geometries the model accepts; where its shape is unknown, the first size that runs."""
    image = samples.pixels.shape[1:]
    usable: list[Preprocessing] = []
    complaint = "its input shape fits no image layout"
    for geometry in candidates.geometries(shape, (image[0], image[1], image[2]), overrides):
        if _superseded(geometry, usable):
            continue
        try:
            predict(geometry, samples.pixels[:2])
        except Exception as error:  # whatever a stranger's model raises is only its refusal
            complaint = reason(error)
            continue
        usable.append(geometry)
    if not usable:
        raise NoInputFits(complaint)
    return usable


def reason(error: BaseException) -> str:
    """The last line of what a model raised: torch puts the cause there."""
    lines = str(error).strip().splitlines()
    return lines[-1][:300] if lines else ""


def _superseded(geometry: Preprocessing, usable: Sequence[Preprocessing]) -> bool:
    """Resizing is only worth trying while no candidate of that layout ran at an earlier size."""
    return any(
        u.layout == geometry.layout and u.channels == geometry.channels and u.size != geometry.size
        for u in usable
    )


def _try(preprocessing: Preprocessing, samples: Images, predict: Predict) -> Trial:
    try:
        scores = predict(preprocessing, samples.pixels)
    except Exception:  # refused this time (e.g. a batch size): worth nothing, but not fatal
        return Trial(preprocessing, 0.0, -np.inf, len(samples))
    accuracy = float(np.mean(scores.argmax(axis=1) == samples.labels))
    return Trial(preprocessing, accuracy, _log_likelihood(scores, samples.labels), len(samples))


def _log_likelihood(scores: Scores, labels: NDArray[np.int64]) -> float:
    """Mean log-probability of the labels, each at most 10 nats bad so that no outlier decides."""
    wide = scores.astype(np.float64)
    if wide.min() >= 0 and np.allclose(wide.sum(axis=1), 1, atol=1e-3):
        logp = np.log(np.maximum(wide, 1e-12))
    else:
        top = wide.max(axis=1, keepdims=True)
        logp = wide - top - np.log(np.exp(wide - top).sum(axis=1, keepdims=True))
    inside = labels < wide.shape[1]
    picked = logp[np.arange(len(labels))[inside], labels[inside]]
    return float(np.maximum(picked, -10).mean()) if len(picked) else -np.inf


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Best first: accuracy, but within two standard errors of the top the likelihood decides."""
    top = max(t.accuracy for t in trials)
    n = trials[0].n
    margin = _TIE * (max(top * (1 - top), 0.25 / n) / n) ** 0.5
    tied = [t for t in trials if t.accuracy >= top - margin]
    rest = [t for t in trials if t.accuracy < top - margin]
    return sorted(tied, key=_plausibility, reverse=True) + sorted(rest, key=lambda t: -t.accuracy)


def _plausibility(trial: Trial) -> float:
    """Log-likelihood less a little for unusual scalings: a guess needs evidence to be odd."""
    place = [v.label for v in candidates.COMMON_VALUES]
    label = trial.preprocessing.label.removesuffix(", BGR")
    rank = place.index(label) if label in place else 0
    return trial.likelihood - _ODDNESS * (rank + ("BGR" in trial.preprocessing.label))


def match_labels(scores: Scores, labels: NDArray[np.int64]) -> tuple[int, ...] | None:
    """A one-to-one relabelling under which the model is much more accurate, or None.

    Entry ``i`` is the model's class for the samples' label ``i``. Only proposed when accuracy rises
    from below 0.5 by at least 0.3 (a folder sorted alphabetically against a model that was not).
    """
    from scipy.optimize import linear_sum_assignment

    classes = scores.shape[1]
    if labels.max(initial=0) >= classes:
        return None  # labels the model has no class for: the caller says so
    predicted = scores.argmax(axis=1)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predicted), 1)
    rows, columns = linear_sum_assignment(-counts)
    before = counts.trace() / max(1, len(labels))
    after = counts[rows, columns].sum() / max(1, len(labels))
    if before >= 0.5 or after < before + 0.3:
        return None
    return tuple(int(c) for c in columns)
