"""Try the repair methods within a time budget and pick one by what a user can know.

Judged are accuracy on the held-out half of the samples, the success of the triggers the audit
recovered, and how often random triggers of every family still move the answer. The attacker's true
trigger is not known here and never asked for. A method that costs more accuracy than allowed is
out, however well it removes the backdoor.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from auditor.checks.interface import Budget
from auditor.findings import Json
from auditor.sanitize.interface import Repair, RepairContext, Sanitizer
from auditor.sanitize.judge import GOOD_ASR, STILL_ALIVE, Judge, Tuned

if TYPE_CHECKING:
    from torch import Tensor

_GOOD_MOVED = 0.15
"""Random triggers that move fewer answers than this (beyond plain errors) end the search."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One method's outcome; `why` says why there is none or why it is out, ``""`` if it is in."""

    method: str
    seconds: float
    repair: Repair | None = None
    accuracy: float | None = None
    asr: float | None = None
    moved: float | None = None
    why: str = ""

    def row(self) -> dict[str, Json]:
        """For the report."""
        shown: dict[str, Json] = {"method": self.method, "seconds": round(self.seconds, 1)}
        for name in ("accuracy", "asr", "moved"):
            value = getattr(self, name)
            if value is not None:
                shown[name] = round(value, 4)
        shown["outcome"] = self.why or "within the limit"
        return shown


@dataclass(slots=True)
class Choice:
    """The chosen repair (None when no candidate is good enough) and every candidate's row."""

    repair: Repair | None = None
    rows: list[dict[str, Json]] = field(default_factory=list)
    reason: str = ""


def choose(context: RepairContext, methods: Sequence[Sanitizer]) -> Choice:
    """Run `methods` in their order; stop when one is good and the rest could only be dearer.

    Where none comes to a copy that works although the audit is sure of a backdoor, methods that can
    go on get the reserve of time.
    """
    has_samples = len(context.held_out) > 0
    ordered = sorted(methods, key=lambda method: method.order)
    if not has_samples:
        ordered = [method for method in ordered if not method.needs_samples]
    search = _Search(context, Judge(context) if has_samples else None)
    search.run(ordered)
    resuming = [method for method in ordered if method.resumes]
    if context.sure and has_samples and resuming and not search.works and context.reserve > 0:
        search.context = replace(context, budget=Budget(context.reserve, context.budget.clock))
        search.run(resuming)
    return Choice(
        search.best[1].repair if search.best is not None else None,
        search.rows,
        "" if search.best is not None else _why_none(context, search, ordered),
    )


@dataclass(slots=True)
class _Search:
    """The candidates so far and the best of those within the limit, with its rank."""

    context: RepairContext
    judge: Judge | None
    rows: list[dict[str, Json]] = field(default_factory=list)
    best: tuple[tuple[float, ...], Candidate] | None = None

    @property
    def works(self) -> bool:
        """Whether the best leaves no recovered trigger that succeeds more than now and then."""
        return self.best is not None and (self.best[1].asr or 0.0) <= STILL_ALIVE

    def run(self, ordered: Sequence[Sanitizer]) -> None:
        """Try each while time is left; stop at a good one."""
        for position, method in enumerate(ordered):
            if self.context.budget.spent:
                spent = Candidate(method.name, 0.0, why="not tried: no time left")
                self.rows.append(spent.row())
                continue
            candidate, seen = _try(self.context, method, self.judge, len(ordered) - position)
            self.rows.append(candidate.row())
            if candidate.repair is None or candidate.why:
                continue
            rank = _rank(seen) if seen is not None else (0.0,)
            if self.best is None or rank > self.best[0]:
                self.best = (rank, candidate)
            if seen is not None and _good(seen, self.context) and method.order >= _LEAST_ORDER:
                break


def _why_none(context: RepairContext, search: _Search, ordered: Sequence[Sanitizer]) -> str:
    """Why no candidate was chosen, in a sentence."""
    outcomes = [str(row["outcome"]) for row in search.rows]
    if not ordered:
        return "no method works without samples"
    if any(outcome in (_TOO_DEAR, _ALIVE) for outcome in outcomes):
        before = "" if search.judge is None else f" of {search.judge.accuracy:.1%}"
        return (
            f"every repair that was found costs more of the held-out accuracy{before} than "
            f"--max-accuracy-drop allows ({context.max_accuracy_drop:.1%}), or leaves a recovered "
            f"trigger working: {_tried(search.rows)}"
        )
    if all(outcome.startswith("failed") for outcome in outcomes):
        return f"every method failed ({outcomes[0]})"
    if all(outcome.startswith("not tried") for outcome in outcomes):
        return "there was no time to try a method"
    return "no method found anything it can change"


def _tried(rows: Sequence[dict[str, Json]]) -> str:
    """The candidates that were judged, in a few words each."""
    return ", ".join(
        f"{row['method']} {row['accuracy']:.1%} with ASR {row['asr']:.0%}"
        for row in rows
        if "accuracy" in row
    )


_LEAST_ORDER = 20
_TOO_DEAR = "costs more accuracy than allowed"
_ALIVE = "leaves a recovered trigger working"
_NO_REPAIR = 0.5
"""A copy that follows a recovered trigger more often than this is not called repaired."""


def _rank(seen: Tuned) -> tuple[float, ...]:
    """Recovered ASR first (in steps of 5 points), then random triggers against accuracy."""
    asr = round(max(seen.excess, GOOD_ASR) * 20) / 20
    return (-asr, seen.accuracy - 0.5 * seen.moved)


def _good(seen: Tuned, context: RepairContext) -> bool:
    beyond = seen.moved - (1 - seen.accuracy)
    return bool(context.triggers) and seen.clear and beyond <= _GOOD_MOVED


def _try(
    context: RepairContext, method: Sanitizer, judge: Judge | None, left: int
) -> tuple[Candidate, Tuned | None]:
    """One method with its share of what is left of the time."""
    share = 1.0 if left == 1 else method.share
    started = time.monotonic()
    given = replace(context, budget=context.budget.share(share))
    try:
        repair = method.repair(given)
    except Exception as error:  # one method's mistake must not cost the others their turn
        problem = f"failed: {type(error).__name__}: {error}"[:200]
        return Candidate(method.name, time.monotonic() - started, why=problem), None
    seconds = time.monotonic() - started
    if repair is None:
        return Candidate(method.name, seconds, why="nothing to change"), None
    if judge is None:
        return Candidate(method.name, seconds, repair), None
    seen = judged(context, repair, judge)
    why = _ALIVE if seen.asr > _NO_REPAIR else ""
    why = why if seen.acceptable else _TOO_DEAR
    return Candidate(method.name, seconds, repair, seen.accuracy, seen.asr, seen.moved, why), seen


def judged(context: RepairContext, repair: Repair, judge: Judge) -> Tuned:
    """What a user can know of `repair`: see `Tuned`."""
    import torch

    if not repair.bounds:
        device = context.classifier.device
        changed: dict[str, Tensor] = {
            name: torch.from_numpy(value.copy()).to(device)
            for name, value in repair.changes.items()
        }
        return judge.see(changed)
    from auditor.classifier import Classifier
    from auditor.sanitize.activation_bounds import bounded_twin

    assert context.path is not None
    given = context.classifier
    twin = bounded_twin(context.path, dict(repair.bounds))
    bounded = Classifier(given.native, given.preprocessing, given.image_shape, twin)
    other = Judge(replace(context, classifier=bounded))
    other.floor = judge.floor
    return other.see({})
