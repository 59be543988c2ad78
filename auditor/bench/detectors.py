"""The detectors a bench compares: ours by probability and by evidence alone, and the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auditor.bench.rows import Row
from auditor.calibration.features import derived
from auditor.calibration.fit import Case, fit, folds_of, groups
from auditor.calibration.model import Calibration
from auditor.errors import UsageError

FLAGGED = ("medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class Detector:
    """One method's answers on `rows`: scores growing with suspicion, flags, target and cost.

    `probabilities` is None for methods that give none. `note` says what the figures are on.
    """

    name: str
    rows: tuple[Row, ...]
    scores: NDArray[np.float64]
    flags: NDArray[np.bool_]
    targets: tuple[int | None, ...]
    seconds: NDArray[np.float64]
    passes: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None
    note: str = ""

    @property
    def truth(self) -> NDArray[np.bool_]:
        """(N,) which models are backdoored."""
        return np.array([row.truth.backdoored for row in self.rows], bool)


def case_of(row: Row) -> Case:
    """What a calibration is fitted to."""
    t = row.truth
    return Case(
        row.features,
        t.backdoored,
        f"{t.rule} {t.family}" if t.backdoored else "clean",
        t.architecture,
        t.dataset,
        t.parameters,
        row.severity,
    )


def evidence(row: Row) -> float:
    """One number without any fit: the larger honest log gap of patch and additive, else margins."""
    known = derived(row.features)
    gaps = [known.get(f"inversion.{name}.log_honest") for name in ("patch", "additive")]
    found = [gap for gap in gaps if gap is not None]
    return max(found) if found else known.get("data_free.margin.z", 0.0)


def by_verdict(rows: Sequence[Row]) -> Detector:
    """The rule a scan's severity comes from, ordered by severity and then by the gap."""
    rank = {"": 0.0, "info": 0.0, "low": 100.0, "medium": 200.0, "high": 300.0, "critical": 400.0}
    scores = [rank.get(row.severity, 0.0) + min(99.0, max(0.0, evidence(row))) for row in rows]
    flags = [row.severity in FLAGGED for row in rows]
    return _ours("audit (rule)", rows, scores, flags, note="no fit: fixed bounds on gaps")


def by_probability(rows: Sequence[Row], calibration: Calibration, name: str, note: str) -> Detector:
    """With coefficients that were fitted elsewhere."""
    values = [
        calibration.estimate(r.features, r.truth.parameters, r.severity).probability for r in rows
    ]
    return _with_probabilities(name, rows, values, note)


def cross_validated(rows: Sequence[Row], kind: str, seed: int = 0) -> Detector:
    """Every model judged by a fit that saw neither it nor its attack: an honest figure from one
    population. Raises `UsageError` where there are too few models."""
    cases = [case_of(row) for row in rows]
    folds = folds_of(groups(cases, seed), seed)
    values = np.zeros(len(rows))
    for held in folds:
        values[held] = _judged(cases, held, kind, seed)
    note = "each model judged by a fit without its attack and without a fifth of the clean models"
    return _with_probabilities("audit (probability)", rows, values.tolist(), note)


def leave_out(rows: Sequence[Row], kind: str, by: str, seed: int = 0) -> dict[str, Detector]:
    """By ``attack``, ``dataset`` or ``architecture``: what is left out, judged by the rest.

    An attack is judged beside a fifth of the clean models, which its fit has not seen either; a
    data set or architecture takes its clean models along. Groups whose rest is too small to fit
    are left out of the answer.
    """
    cases = [case_of(row) for row in rows]
    labels = groups(cases, seed)
    out = {}
    for name in sorted({_part(case, by) for case in cases if by != "attack" or case.backdoored}):
        inside = np.array([_part(case, by) == name for case in cases])
        values = np.zeros(len(cases))
        try:
            if by == "attack":
                judged = inside | (labels < 0)
                _without_attack(cases, inside, labels, kind, seed, values)
            else:
                judged = inside
                values[inside] = _judged(cases, inside, kind, seed)
        except UsageError:
            continue
        chosen = [row for row, here in zip(rows, judged, strict=True) if here]
        out[name] = _with_probabilities(name, chosen, values[judged].tolist(), f"without {name}")
    return out


def _without_attack(
    cases: Sequence[Case],
    inside: NDArray[np.bool_],
    labels: NDArray[np.int64],
    kind: str,
    seed: int,
    values: NDArray[np.float64],
) -> None:
    """Fill `values` of the attack (mean of the fits) and of the clean models (the fit without)."""
    parts = [labels == part for part in np.unique(labels[labels < 0])]
    for clean in parts:
        held = inside | clean
        answers = np.zeros(len(cases))
        answers[held] = _judged(cases, held, kind, seed)
        values[clean] = answers[clean]
        values[inside] += answers[inside] / len(parts)


def baselines(rows: Sequence[Row]) -> list[Detector]:
    """One for each method the rows hold, on the models where it ran."""
    names = dict.fromkeys(name for row in rows for name in row.baselines)
    out = []
    for name in names:
        ran = [r for r in rows if name in r.baselines and r.baselines[name].score is not None]
        if not ran:
            continue
        answers = [row.baselines[name] for row in ran]
        out.append(
            Detector(
                name,
                tuple(ran),
                np.array([float(a.score or 0.0) for a in answers]),
                np.array([a.flag for a in answers], bool),
                tuple(a.target for a in answers),
                np.array([a.seconds for a in answers]),
                np.array([a.passes for a in answers], np.int64),
                note=f"ran on {len(ran)} of {len(rows)} models",
            )
        )
    return out


def _part(case: Case, by: str) -> str:
    return {"attack": case.group, "dataset": case.dataset, "architecture": case.architecture}[by]


def _judged(
    cases: Sequence[Case], held: NDArray[np.bool_], kind: str, seed: int
) -> NDArray[np.float64]:
    """Probabilities of the `held` cases by a fit to the others."""
    rest = [c for c, out in zip(cases, held, strict=True) if not out]
    model = fit(rest, kind, population="", seed=seed, draws=1)
    return np.array(
        [
            model.estimate(c.features, c.parameters, c.severity).probability
            for c, out in zip(cases, held, strict=True)
            if out
        ]
    )


def _ours(
    name: str, rows: Sequence[Row], scores: Sequence[float], flags: Sequence[bool], note: str
) -> Detector:
    return Detector(
        name,
        tuple(rows),
        np.array(scores, np.float64),
        np.array(flags, bool),
        tuple(row.named for row in rows),
        np.array([row.seconds for row in rows]),
        np.array([row.passes for row in rows], np.int64),
        note=note,
    )


def _with_probabilities(
    name: str, rows: Sequence[Row], values: Sequence[float], note: str
) -> Detector:
    plain = _ours(name, rows, values, [v >= 0.5 for v in values], note)
    pointed = tuple(_points_at(row) for row in rows)
    return replace(plain, probabilities=np.array(values, np.float64), targets=pointed)


def _points_at(row: Row) -> int | None:
    """The class the evidence adds up to: what a report names beside the probability."""
    target = row.features.get("consensus.target")
    return row.named if target is None else int(target)


def kind_of(rows: Sequence[Row]) -> str:
    """``data-free`` when the rows were made without samples. Raises `UsageError` for a mixture."""
    without = {row.samples == 0 for row in rows}
    if len(without) > 1:
        raise UsageError("these rows mix audits with and without samples: give them one at a time")
    return "data-free" if without == {True} else "samples"
