"""Run checks one after another and turn whatever happens into a `CheckResult`. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from auditor.checks.interface import (
    BehaviourContext,
    Check,
    FileContext,
    Incomplete,
    Skipped,
)
from auditor.findings import CheckResult, Figure, Finding, Json, Metric, Notice, Severity

NEED_WORDS = {
    "file": "the file",
    "predictions": "a classifier that runs",
    "gradients": "gradients (a differentiable twin)",
    "activations": "activations (a differentiable twin)",
    "samples": "labelled samples (--data)",
    "training_data": "the training data (--train-data)",
}


class Collector:
    """Gathers what one check yields; metrics and figures keep their order."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.metrics: dict[str, Json] = {}
        self.figures: list[Figure] = []
        self.notices: list[str] = []

    def add(self, outcome: object) -> None:
        """Sort one outcome into its list; raises ``TypeError`` for anything else."""
        if isinstance(outcome, Finding):
            self.findings.append(outcome)
        elif isinstance(outcome, Metric):
            self.metrics[outcome.name] = outcome.value
        elif isinstance(outcome, Figure):
            self.figures.append(outcome)
        elif isinstance(outcome, Notice):
            self.notices.append(outcome.text)
        else:
            raise TypeError(f"a check yielded {type(outcome).__name__}")


def unmet(check: type[Check], met: frozenset[str], why: dict[str, str]) -> str:
    """The reason `check` cannot run given the `met` needs, or an empty string."""
    missing = sorted(check.needs - met - {"file"})
    if not missing:
        return ""
    parts = [why.get(need) or f"needs {NEED_WORDS[need]}" for need in missing]
    return "; ".join(dict.fromkeys(parts))


def run_check(check: Check, context: FileContext | BehaviourContext) -> CheckResult:
    """Run one check to the end. An exception becomes ``incomplete`` with its message."""
    started = time.monotonic()
    gathered = Collector()
    status, reason = "", ""
    try:
        for outcome in check.run(context):
            gathered.add(outcome)
    except Skipped as skip:
        status, reason = "skipped", str(skip)
    except Incomplete as stop:
        status, reason = "incomplete", str(stop)
    except MemoryError:
        status, reason = "incomplete", "ran out of memory"
    except Exception as error:  # a defect in one check must not hide the others' results
        status, reason = "incomplete", _one_line(error)
    if not status:
        worst = max((f.severity for f in gathered.findings), default=Severity.INFO)
        status = "flagged" if worst >= Severity.MEDIUM else "passed"
    return CheckResult(
        check.name,
        status,
        reason,
        time.monotonic() - started,
        tuple(gathered.findings),
        gathered.metrics,
        tuple(gathered.figures),
        tuple(gathered.notices),
    )


def run_behaviour(
    checks: Iterable[type[Check]],
    context: BehaviourContext,
    met: frozenset[str],
    why: dict[str, str],
    report: Callable[[CheckResult], None],
    started: Callable[[str], None] = lambda name: None,
) -> None:
    """Run `checks` in order, each with its share (by `Check.weight`) of what is left of the budget.

    A check that finishes early leaves its time to the others. Measurements (checks that raise
    nothing above info by themselves) never get more than their share of the whole: on a quick model
    they would fill the minute for a few more digits; option ``budget.whole`` lifts that. One that
    found no time at all is skipped with that reason; a security check without time is incomplete.
    """
    pending = []
    for check in checks:
        reason = unmet(check, met, why)
        if reason:
            report(CheckResult(check.name, "skipped", reason, 0.0))
        else:
            pending.append(check)
    whole = context.budget
    everything = sum(c.weight for c in pending)
    whole_for_all = bool(context.options.get("budget.whole"))
    for position, check in enumerate(pending):
        weights = sum(c.weight for c in pending[position:])
        context.budget = whole.share(check.weight / weights if weights else 1.0)
        measures = check.default_severity == Severity.INFO
        if measures and not whole_for_all:
            fair = whole.seconds * check.weight / everything
            context.budget.seconds = min(context.budget.seconds, fair)
        started(check.name)
        result = run_check(check(), context)
        if measures and result.status == "incomplete" and context.budget.spent:
            result = replace(result, status="skipped", reason=f"no time for it: {result.reason}")
        report(result)
    context.budget = whole


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
