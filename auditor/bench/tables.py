"""From detectors to tables: overall, per attack, architecture and data set, left out, and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.bench import figures as f
from auditor.bench.detectors import (
    Detector,
    baselines,
    by_probability,
    by_verdict,
    cross_validated,
    kind_of,
    leave_out,
)
from auditor.bench.rows import Row
from auditor.calibration.model import Calibration
from auditor.errors import UsageError

WEAK_AUC = 0.9
WEAK_TPR = 0.8


@dataclass(frozen=True, slots=True)
class Table:
    """`title` says what a row is; cells are words; `notes` sentences below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """Everything shown: `detectors` are what the plots are drawn from."""

    tables: tuple[Table, ...]
    detectors: tuple[Detector, ...]
    notices: tuple[str, ...]


def results(rows: Sequence[Row], calibration: Calibration | None = None, seed: int = 0) -> Results:
    """All tables of `rows`. Incomplete rows, models the zoo did not accept: left out and told.

    With `calibration` the probability is its own; else each model is judged by a fit to the others,
    where there are enough. Raises `UsageError` when nothing is left or the rows are a mixture.
    """
    done = [row for row in rows if row.counts]
    notices = _left_out(rows, done)
    if not done:
        raise UsageError("no model could be scanned to the end: no figure can be given")
    kind = kind_of(done)
    detectors = [by_verdict(done)]
    left: list[Table] = []
    try:
        if calibration is not None:
            p = calibration.provenance
            note = f"coefficients of {p.date}, fitted on {p.models} models ({p.population})"
            detectors.append(by_probability(done, calibration, "audit (probability)", note))
        else:
            detectors.append(cross_validated(done, kind, seed))
            left = [_left_out_table(done, kind, by, seed) for by in ("attack", "dataset",
                                                                     "architecture")]  # fmt: skip
    except UsageError as error:
        notices.append(f"No probability: {error}.")
    detectors += baselines(done)
    lead = detectors[1] if detectors[-1] is not detectors[0] and len(detectors) > 1 else None
    ours = lead if lead is not None and lead.probabilities is not None else detectors[0]
    tables = [
        _overall(detectors),
        _false_alarms(detectors),
        _by(ours, "label rule", lambda r: r.truth.rule),
        _by(ours, "attack", lambda r: f"{r.truth.rule} {r.truth.family}"),
        _by(ours, "architecture", lambda r: r.truth.architecture),
        _by(ours, "data set", lambda r: r.truth.dataset),
        *left,
        _costs(detectors),
    ]
    return Results(tuple(t for t in tables if t.rows), tuple(detectors), tuple(notices))


def _left_out(rows: Sequence[Row], done: Sequence[Row]) -> list[str]:
    if len(done) == len(rows):
        return []
    names = [f"{r.model} ({r.error or _why(r)})" for r in rows if r not in done]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{len(names)} models are not in the figures: {', '.join(names[:5])}{more}."]


def _why(row: Row) -> str:
    if not row.truth.accepted:
        return "missed the zoo's acceptance"
    return ", ".join(f"{k} {v}" for k, v in row.status.items() if v in ("incomplete", "skipped"))


def _overall(detectors: Sequence[Detector]) -> Table:
    rows = []
    for d in detectors:
        truth = d.truth
        entropy = (
            f.with_interval(f.cross_entropy, d.probabilities, truth).words()
            if d.probabilities is not None
            else "-"
        )
        rows.append(
            (
                d.name,
                f"{int(truth.sum())} of {len(truth)}",
                f.with_interval(f.auc, d.scores, truth).words(),
                entropy,
                f.with_interval(f.tpr_at_fpr, d.scores, truth).words(),
                _targets(d).words(),
            )
        )
    columns = ("detector", "backdoored", "ROC-AUC", "cross-entropy", "TPR at 5 % FPR",
               "target named")  # fmt: skip
    notes = tuple(f"{d.name}: {d.note}." for d in detectors if d.note)
    few = int((~detectors[0].truth).sum())
    if few < 20:
        notes += (f"With {few} clean models, TPR at 5 % FPR is TPR at no false alarm at all.",)
    return Table("All models (95 % intervals: bootstrap, Wilson for shares)", columns,
                 tuple(rows), notes)  # fmt: skip


def _targets(d: Detector) -> f.Figure:
    """Right class named among flagged models with an attack on one class or several."""
    aimed = [
        (row.truth.targets, target)
        for row, target, flag in zip(d.rows, d.targets, d.flags, strict=True)
        if flag and row.truth.targets
    ]
    return f.rate(sum(target in targets for targets, target in aimed), len(aimed))


def _false_alarms(detectors: Sequence[Detector]) -> Table:
    rows = []
    for d in detectors:
        cells = [d.name]
        for kind in ("clean", "adversarial"):
            flags = [bool(flag) for row, flag in zip(d.rows, d.flags, strict=True)
                     if row.truth.kind == kind]  # fmt: skip
            cells.append(_counted(flags))
        cells.append(_counted([bool(v) for v in d.flags[d.truth]]))
        rows.append(tuple(cells))
    columns = ("detector", "FPR clean", "FPR adversarially trained", "TPR")
    return Table("Flags as given (probability 0.5, severity medium, or the method's own bound)",
                 columns, tuple(rows))  # fmt: skip


def _counted(flags: Sequence[bool]) -> str:
    if not flags:
        return "-"
    share = f.rate(sum(flags), len(flags))
    return f"{sum(flags)}/{len(flags)}, {share.words(2)}"


def _by(d: Detector, word: str, group: Callable[[Row], str]) -> Table:
    """Backdoored models of each group against all clean ones of the bench (of the same data set or
    architecture where it is grouped by those)."""
    rows = []
    of_attacks = word in {"attack", "label rule"}
    names = sorted({group(r) for r in d.rows if r.truth.backdoored or not of_attacks})
    for name in names:
        inside = np.array([group(r) == name for r in d.rows])
        mask = inside | ~d.truth if of_attacks else inside
        rows.append((name, *_line(d, mask, inside)))
    columns = (word, "backdoored", "ROC-AUC", "flagged", "target named", "median probability")
    notes = _weak(rows) if word == "attack" else ()
    return Table(f"Per {word}: {d.name}", columns, tuple(rows), notes)


def _line(d: Detector, mask: NDArray[np.bool_], inside: NDArray[np.bool_]) -> tuple[str, ...]:
    attacked = inside & d.truth
    picked = _subset(d, attacked)
    middle = (
        f"{np.median(d.probabilities[attacked]):.2f}"
        if d.probabilities is not None and attacked.any()
        else "-"
    )
    return (
        str(int(attacked.sum())),
        f.with_interval(f.auc, d.scores[mask], d.truth[mask]).words(2),
        _counted([bool(v) for v in d.flags[attacked]]),
        _targets(picked).words(2),
        middle,
    )


def _subset(d: Detector, mask: NDArray[np.bool_]) -> Detector:
    at = np.flatnonzero(mask)
    return Detector(
        d.name,
        tuple(d.rows[i] for i in at),
        d.scores[mask],
        d.flags[mask],
        tuple(d.targets[i] for i in at),
        d.seconds[mask],
        d.passes[mask],
        None if d.probabilities is None else d.probabilities[mask],
        d.note,
    )


def _weak(rows: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Families named plainly whose AUC or share flagged is low."""
    weak = []
    for name, _, area, flagged, *_ in rows:
        hits, _, n = flagged.partition(",")[0].partition("/")
        low_area = area != "-" and float(area.split()[0]) < WEAK_AUC
        low_share = bool(n) and int(hits) < WEAK_TPR * int(n)
        if low_area or low_share:
            weak.append(name)
    return (f"Weak: {', '.join(weak)}.",) if weak else ()


def _left_out_table(rows: Sequence[Row], kind: str, by: str, seed: int) -> Table:
    lines = []
    for name, d in leave_out(rows, kind, by, seed).items():
        everything = np.ones(len(d.rows), bool)
        lines.append((name, *_line(d, everything, everything)))
    columns = (by, "backdoored", "ROC-AUC", "flagged", "target named", "median probability")
    title = f"Leave one {by} out: judged by a fit to all others"
    return Table(title, columns, tuple(lines), _weak(lines) if by == "attack" else ())


def _costs(detectors: Sequence[Detector]) -> Table:
    rows = []
    for d in detectors:
        ran = d.passes > 0
        passes = f"{int(np.median(d.passes[ran])):,}" if ran.any() else "-"
        rows.append(
            (
                d.name,
                f"{np.median(d.seconds):.1f}",
                f"{np.quantile(d.seconds, 0.9):.1f}",
                f"{d.seconds.max():.1f}",
                passes,
            )
        )
    columns = ("detector", "median s", "90 % s", "longest s", "gradient passes (median)")
    note = "Seconds are of the clock, whatever else ran; passes are images forwards and backwards."
    return Table("Cost per model", columns, tuple(rows), (note,))
