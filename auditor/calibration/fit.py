"""Fit the probability to a population whose truth is known: logistic regression, L2 penalty.

The penalty is chosen by cross-validation in which all models of one attack leave together, so that
what counts is how it does on an attack it has not seen.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.calibration.features import DATA_FREE, WITH_SAMPLES, derived
from auditor.calibration.floors import floors
from auditor.calibration.model import Calibration, Provenance, Range
from auditor.errors import UsageError
from auditor.version import __version__

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""The loss's weight C, as scikit-learn calls it; small is strong shrinkage."""

DRAWS = 200
LEAST = 12
"""Models of either kind below which no fit is made."""

_NEWTON, _LONGEST = 100, 2.0
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """One model of a population: the checks' raw `features`, the truth, and what it is grouped by.

    `group` is the attack; clean models get groups of their own from `fit`. `severity` is that of
    the finding a search led to, empty for none.
    """

    features: Mapping[str, float]
    backdoored: bool
    group: str
    architecture: str
    dataset: str
    parameters: int
    severity: str = ""


def names_for(kind: str) -> tuple[str, ...]:
    """Features of the model ``samples`` or ``data-free``."""
    return DATA_FREE if kind == "data-free" else WITH_SAMPLES


def fit(
    cases: Sequence[Case],
    kind: str,
    *,
    population: str,
    seed: int = 0,
    penalty: float | None = None,
    draws: int = DRAWS,
    held_out: Mapping[str, float] | None = None,
) -> Calibration:
    """Coefficients for `kind`. Raises `UsageError` when there are too few models of either kind."""
    truth = np.array([case.backdoored for case in cases], bool)
    few = min(int(truth.sum()), int((~truth).sum()))
    if few < LEAST:
        raise UsageError(
            f"a calibration needs at least {LEAST} clean and {LEAST} backdoored models; here are "
            f"{int((~truth).sum())} and {int(truth.sum())}"
        )
    names = names_for(kind)
    raw = table(cases, names)
    means = np.nanmean(raw, 0)
    filled = np.where(np.isnan(raw), means, raw)
    scales = np.maximum(filled.std(0), 1e-6)
    x = (filled - means) / scales
    chosen = penalty if penalty is not None else _best_penalty(x, truth, cases, seed)
    intercept, coefficients = _logistic(x, truth, chosen)
    return Calibration(
        names=names,
        means=_rounded(means),
        scales=_rounded(scales),
        coefficients=_rounded(coefficients),
        intercept=round(intercept, 6),
        draws=_bootstrap(x, truth, chosen, draws, seed),
        ranges=tuple(
            Range(float(low), float(high))
            for low, high in zip(filled.min(0), filled.max(0), strict=True)
        ),
        about=_about(cases),
        provenance=Provenance(
            population=population,
            models=len(cases),
            clean=int((~truth).sum()),
            backdoored=int(truth.sum()),
            seed=seed,
            tool=__version__,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            penalty=chosen,
            attacks=tuple(sorted({c.group for c in cases if c.backdoored})),
            architectures=tuple(sorted({c.architecture for c in cases})),
            datasets=tuple(sorted({c.dataset for c in cases})),
            held_out=dict(held_out or {}),
        ),
        floors=(
            {} if kind == "data-free" else floors([c.severity for c in cases], truth, draws, seed)
        ),
    )


def table(cases: Sequence[Case], names: Sequence[str]) -> Matrix:
    """(N, F) float64, NaN where a case lacks a feature. Raises `UsageError` for an empty column."""
    rows = [derived(case.features) for case in cases]
    values = np.array([[row.get(name, np.nan) for name in names] for row in rows], np.float64)
    empty = [n for n, column in zip(names, values.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise UsageError(f"no row has the feature {', '.join(empty)}: were the checks run?")
    return values


def groups(cases: Sequence[Case], seed: int, parts: int = 5) -> NDArray[np.int64]:
    """(N,) group numbers: one an attack; clean models dealt over `parts` more, at random."""
    attacks = sorted({c.group for c in cases if c.backdoored})
    deal = np.random.default_rng(seed).integers(parts, size=len(cases))
    return np.array(
        [attacks.index(c.group) if c.backdoored else -1 - deal[i] for i, c in enumerate(cases)]
    )


def _best_penalty(x: Matrix, truth: NDArray[Any], cases: Sequence[Case], seed: int) -> float:
    """The C with the smallest cross-entropy over attacks left out, one after the other."""
    labels = groups(cases, seed)
    folds = folds_of(labels, seed)
    losses = []
    for penalty in PENALTIES:
        out = np.zeros(len(x))
        for held in folds:
            intercept, weights = _logistic(x[~held], truth[~held], penalty)
            out[held] = 1 / (1 + np.exp(-(intercept + x[held] @ weights)))
        sure = np.clip(np.where(truth, out, 1 - out), 1e-6, 1.0)
        losses.append(float(-np.log(sure).mean()))
    return PENALTIES[int(np.argmin(losses))]


def folds_of(labels: NDArray[np.int64], seed: int, count: int = 5) -> list[NDArray[np.bool_]]:
    """`count` boolean masks (N,): whole attacks and parts of the clean models leave together."""
    attacks = np.unique(labels[labels >= 0])
    shuffled = np.random.default_rng(seed).permutation(attacks)
    fold = {int(a): i % count for i, a in enumerate(shuffled)}
    where = np.array([fold[int(v)] if v >= 0 else (-1 - int(v)) % count for v in labels])
    return [where == k for k in range(count) if (where == k).any()]


def _logistic(x: Matrix, truth: NDArray[Any], penalty: float) -> tuple[float, Matrix]:
    """Intercept and weights that minimise ``|w|^2 / 2 + C * sum(s * loss)``, by Newton's method.

    scikit-learn's objective (tests compare), of which a bench solves thousands; both kinds weigh
    the same, so that the probability is for even odds.
    """
    count = len(truth)
    share = np.where(truth, truth.sum(), (~truth).sum())
    weight = penalty * count / (2.0 * np.maximum(share, 1))
    design = np.column_stack([np.ones(count), x])
    shrink = np.eye(design.shape[1])
    shrink[0, 0] = 1e-9  # the intercept is free
    w = np.zeros(design.shape[1])
    for _ in range(_NEWTON):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ w, -30.0, 30.0)))
        slope = design.T @ (weight * (p - truth)) + shrink @ w
        bend = (design.T * (weight * np.maximum(p * (1.0 - p), 1e-9))) @ design + shrink
        step = np.linalg.solve(bend, slope)
        w = w - step * min(1.0, _LONGEST / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-8:
            break
    return float(w[0]), w[1:]


def _bootstrap(
    x: Matrix, truth: NDArray[Any], penalty: float, draws: int, seed: int
) -> tuple[tuple[float, ...], ...]:
    """Intercept and coefficients of refits to models drawn with replacement, kinds kept."""
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    rows = []
    for _ in range(draws):
        picked = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
        intercept, weights = _logistic(x[picked], truth[picked], penalty)
        rows.append((round(intercept, 5), *_rounded(weights, 5)))
    return tuple(rows)


def _about(cases: Sequence[Case]) -> dict[str, Range]:
    out = {}
    for name in ("about.classes", "about.side"):
        values = [c.features[name] for c in cases if name in c.features]
        if values:
            out[name] = Range(min(values), max(values))
    sizes = [float(case.parameters) for case in cases]
    out["about.parameters"] = Range(min(sizes), max(sizes))
    return out


def _rounded(values: Any, digits: int = 6) -> tuple[float, ...]:
    return tuple(round(float(v), digits) for v in values)
