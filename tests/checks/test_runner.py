"""The runner turns whatever a check does into a result; the wire carries it unharmed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from auditor.checks.interface import (
    BehaviourCheck,
    BehaviourContext,
    Budget,
    Incomplete,
    Skipped,
)
from auditor.checks.registry import all_checks, chosen
from auditor.checks.runner import run_behaviour, run_check
from auditor.checks.wire import from_wire, to_wire
from auditor.errors import SandboxError, UsageError
from auditor.findings import CheckResult, Figure, Finding, Metric, Notice, Outcome, Severity


def finding(severity: Severity) -> Finding:
    return Finding("x.y", severity, "title", "evidence", "why", "remedy", target_class=3)


class Scripted(BehaviourCheck):
    name = "scripted"
    title = "Scripted"
    doc = "Does what the test says."
    needs = frozenset({"predictions"})
    outcomes: ClassVar[list[Any]] = []

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        for outcome in self.outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


def context(seconds: float = 10.0) -> BehaviourContext:
    return BehaviourContext(None, None, None, Budget(seconds))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcomes", "status", "reason"),
    [
        ([], "passed", ""),
        ([finding(Severity.LOW)], "passed", ""),
        ([finding(Severity.MEDIUM)], "flagged", ""),
        ([Skipped("no need")], "skipped", "no need"),
        ([Incomplete("no time")], "incomplete", "no time"),
        ([ValueError("a\nb")], "incomplete", "ValueError: a b"),
        (["not an outcome"], "incomplete", "TypeError: a check yielded str"),
        ([MemoryError()], "incomplete", "ran out of memory"),
    ],
)
def test_every_ending_has_a_status(outcomes: list[Any], status: str, reason: str) -> None:
    Scripted.outcomes = outcomes
    result = run_check(Scripted(), context())
    assert (result.status, result.reason) == (status, reason)


def test_what_was_yielded_before_a_failure_is_kept() -> None:
    Scripted.outcomes = [Metric("a.b", 1), finding(Severity.HIGH), RuntimeError("late")]
    result = run_check(Scripted(), context())
    assert result.status == "incomplete"
    assert result.metrics == {"a.b": 1}
    assert len(result.findings) == 1


def test_unmet_needs_are_skipped_with_the_reason() -> None:
    results: list[CheckResult] = []
    run_behaviour([Scripted], context(), frozenset({"file"}), {}, results.append)
    assert results[0].status == "skipped"
    assert "a classifier that runs" in results[0].reason


def test_budget_is_shared_by_weight_and_time_left_over_is_passed_on() -> None:
    now = [0.0]
    seen: list[float] = []

    class Heavy(Scripted):
        name = "heavy"
        weight = 3.0
        default_severity = Severity.HIGH

        def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
            seen.append(context.budget.left)
            now[0] += 10.0
            yield Notice("used ten seconds")

    class Light(Heavy):
        name = "light"
        weight = 1.0

    whole = context()
    whole.budget = Budget(80.0, lambda: now[0])
    run_behaviour([Heavy, Light], whole, frozenset({"predictions"}), {}, lambda r: None)
    assert seen == [60.0, 70.0]


def test_a_measurement_keeps_to_its_share_and_is_skipped_without_time() -> None:
    now = [0.0]
    seen: list[float] = []

    class Measure(Scripted):
        name = "measure"

        def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
            seen.append(context.budget.left)
            now[0] += 100.0
            raise Incomplete("nothing was measured")
            yield

    class Guard(Measure):
        name = "guard"
        default_severity = Severity.HIGH

    whole = context()
    whole.budget = Budget(80.0, lambda: now[0])
    results: list[CheckResult] = []
    run_behaviour([Measure, Guard], whole, frozenset({"predictions"}), {}, results.append)
    assert seen == [40.0, 0.0]
    assert [r.status for r in results] == ["skipped", "incomplete"]
    assert "no time for it" in results[0].reason


def test_wire_round_trip() -> None:
    picture = np.zeros((4, 5), np.uint8)
    result = CheckResult(
        "c", "flagged", "", 1.5, (finding(Severity.HIGH),), {"m": [1]}, (Figure("f", "F", picture),)
    )
    back = from_wire(*to_wire(result))
    assert back.findings == result.findings
    assert back.metrics == {"m": [1]}
    np.testing.assert_array_equal(back.figures[0].pixels, picture)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b, a: b.pop("status"),
        lambda b, a: b.update(status="clean"),
        lambda b, a: b.update(findings=[{"rule": "x"}]),
        lambda b, a: b.update(findings=3),
        lambda b, a: a.clear(),
        lambda b, a: a.update(figure0=np.zeros((2, 2), np.float32)),
        lambda b, a: b.update(seconds="soon"),
    ],
)
def test_lies_on_the_wire_are_told(spoil: Any) -> None:
    figure = Figure("f", "F", np.zeros((2, 2), np.uint8))
    body, arrays = to_wire(CheckResult("c", "passed", "", 0.0, figures=(figure,)))
    spoil(body, arrays)
    with pytest.raises(SandboxError):
        from_wire(body, arrays)


def test_every_registered_check_is_complete_and_named_once() -> None:
    registered, notices = all_checks()
    assert notices == ()
    names = [r.check.name for r in registered]
    assert len(names) == len(set(names))
    for entry in registered:
        assert entry.check.title
        assert len(entry.check.doc) > 60, entry.check.name
        assert entry.check.needs


def test_selection_by_name_and_prefix() -> None:
    checks = [r.check for r in all_checks()[0]]
    only = chosen(checks, ("robustness",), ("robustness.fgsm",))
    assert only
    assert all(c.name.startswith("robustness.") for c in only)
    assert "robustness.fgsm" not in {c.name for c in only}
    with pytest.raises(UsageError, match="there is no check 'nonsense'"):
        chosen(checks, (), ("nonsense",))
