"""The second sweep: every sample of a poisoned class, scored by all that tells poison apart.

Starting from the confirmed group, three views of each sample of the class (pixels against the
trigger, what it shows once the group is forgotten, activations) are joined by a logistic fit, the
group is drawn anew, and so on. Even 0.3 % of poison can carry an attack, so the cut leans towards
taking too many: at most a few percent of the class's honest samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.poison.content import margins
from auditor.poison.interface import Confirmed, Floats, Study
from auditor.poison.residual import Moments, match_scores, recover

ROUNDS = 3
_CHUNK = 4_000
_SHRINKAGE = 0.05


def sweep(study: Study, confirmed: Confirmed) -> None:
    """Redraw `confirmed.members` (and its trigger), and keep the scores (n,) of the whole class."""
    from auditor.poison.trigger import contrast

    label = confirmed.label
    index = np.flatnonzero(study.labels == label)
    inside = np.isin(index, confirmed.members)
    rng = np.random.default_rng([study.seed, 23, label])
    activity = study.activations[index].astype(np.float64)
    if confirmed.trigger is not None:
        inside = _carriers(study, label, index, inside, rng)
    chance = inside.astype(np.float64)
    for _ in range(ROUNDS):
        if inside.sum() < 2 or (~inside).sum() < 2:
            break
        members = index[inside]
        shown = study.probe().without_held_out(members)[index]
        called = shown[inside].argmax(axis=1)
        group, plain = contrast(study, members, called, rng)
        if confirmed.trigger is not None:
            confirmed.trigger = recover(group, plain)
        pixels = match_all(study, index, group, plain)
        views = np.column_stack(
            [
                pixels,
                margins(shown, label),
                fisher(activity, inside, study.seed),
            ]
        )
        chance = join(views, inside, study.seed)
        drawn = chance > 0.5
        if np.array_equal(drawn, inside):
            break
        inside = drawn
    confirmed.members = index[inside]
    study.shares[f"sweep.{label}"] = chance.astype(np.float32)


def _carriers(
    study: Study,
    label: int,
    index: NDArray[np.int64],
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """`inside` with all samples of the class that match the recovered trigger as its members do."""
    from auditor.poison.trigger import contrast

    for _ in range(2):
        if inside.all():
            break
        members = index[inside]
        shown = study.probe().features[members] @ study.probe().forgetting(members)
        others = shown.copy()
        others[:, label] = -np.inf
        group, plain = contrast(study, members, others.argmax(axis=1), rng)
        scores = match_all(study, index, group, plain)
        typical = float(np.median(scores[inside]))
        usual = float(np.median(scores[~inside]))
        if typical <= usual:
            break
        inside = inside | (scores > (typical + usual) / 2)
    return inside


def match_all(study: Study, index: NDArray[np.int64], group: Moments, plain: Moments) -> Floats:
    """`match_scores` (n,) of the samples at `index`, in chunks."""
    chunk = study.suspects.at_once(_CHUNK)
    parts = [
        match_scores(study.suspects.floats(index[s : s + chunk]), group, plain)
        for s in range(0, len(index), chunk)
    ]
    return np.concatenate(parts)


def fisher(
    points: NDArray[np.float64], inside: NDArray[np.bool_], seed: int = 0
) -> NDArray[np.float64]:
    """Projection (n,) on the direction that best separates `inside` from the rest (Fisher 1936).

    Each half is projected on the direction found in the other: with few samples the direction
    would learn the members by heart.
    """
    half = np.zeros(len(points), bool)
    rng = np.random.default_rng([seed, 47])
    for side in (inside, ~inside):
        mine = rng.permutation(np.flatnonzero(side))
        half[mine[: len(mine) // 2]] = True
    projected = np.zeros(len(points))
    for part in (half, ~half):
        a, b = points[part & inside], points[part & ~inside]
        if len(a) < 2 or len(b) < 2:
            return np.zeros(len(points))
        within = np.cov(a.T) * (len(a) - 1) + np.cov(b.T) * (len(b) - 1)
        within = np.atleast_2d(within) / max(len(a) + len(b) - 2, 1)
        ridge = _SHRINKAGE * np.trace(within) / len(within) + 1e-9
        gap = a.mean(axis=0) - b.mean(axis=0)
        direction = np.linalg.solve(within + ridge * np.eye(len(within)), gap)
        unit = direction / max(float(np.sqrt(direction @ within @ direction)), 1e-12)
        projected[~part] = (points[~part] - (a.mean(axis=0) + b.mean(axis=0)) / 2) @ unit
    return projected


def join(views: NDArray[np.float64], inside: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """Chance (n,) of belonging to the group, by logistic regression on standardised views."""
    from sklearn.linear_model import LogisticRegression

    scaled = (views - np.median(views, axis=0)) / (views.std(axis=0) + 1e-9)
    model = LogisticRegression(C=1.0, class_weight="balanced", random_state=seed)
    chance: NDArray[np.float64] = model.fit(scaled, inside).predict_proba(scaled)[:, 1]
    return chance
