"""The verdict and exit code rules of DESIGN.md, one by one."""

from __future__ import annotations

import pytest

from auditor.findings import CheckResult, Finding, Severity
from auditor.verdict import decide, overall_exit


def finding(severity: Severity) -> Finding:
    return Finding("rule", severity, "title", "evidence", "why", "remedy")


def check(status: str) -> CheckResult:
    return CheckResult("probe", status, "the reason", 1.0)


@pytest.mark.parametrize(
    ("severity", "status", "given", "verdict", "code"),
    [
        (None, "passed", True, "pass", 0),
        (Severity.LOW, "flagged", True, "pass", 0),
        (Severity.MEDIUM, "flagged", True, "review", 0),
        (Severity.HIGH, "flagged", True, "fail", 1),
        (Severity.CRITICAL, "flagged", True, "fail", 1),
        (None, "passed", False, "review", 0),
        (Severity.HIGH, "flagged", False, "fail", 1),
        (None, "incomplete", True, "incomplete", 3),
        (Severity.MEDIUM, "incomplete", True, "incomplete", 3),
        (Severity.HIGH, "incomplete", True, "fail", 1),
        (None, "incomplete", False, "incomplete", 3),
        (None, "skipped", True, "pass", 0),
    ],
)
def test_default_gate(
    severity: Severity | None, status: str, given: bool, verdict: str, code: int
) -> None:
    findings = [] if severity is None else [finding(severity)]
    decision = decide(findings, [check(status)], samples_given=given)
    assert (decision.verdict, decision.exit_code) == (verdict, code)
    assert decision.reasons


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (Severity.LOW, 1),
        (Severity.MEDIUM, 1),
        (Severity.HIGH, 0),
        (None, 0),
    ],
)
def test_gate_moves_the_exit_code_and_not_the_verdict(gate: Severity | None, code: int) -> None:
    decision = decide([finding(Severity.MEDIUM)], [], samples_given=True, fail_on=gate)
    assert (decision.verdict, decision.exit_code) == ("review", code)


def test_fail_below_the_gate_with_an_unfinished_check_exits_3() -> None:
    decision = decide(
        [finding(Severity.HIGH)],
        [check("incomplete")],
        samples_given=True,
        fail_on=Severity.CRITICAL,
    )
    assert (decision.verdict, decision.exit_code) == ("fail", 3)


def test_unmet_policy_requirement_is_incomplete_and_named() -> None:
    decision = decide([], [], samples_given=True, unmet=["needs probe"])
    assert (decision.verdict, decision.exit_code) == ("incomplete", 3)
    assert "needs probe" in decision.reasons


def test_worst_reason_comes_first() -> None:
    found = [finding(Severity.MEDIUM), finding(Severity.CRITICAL)]
    assert decide(found, [], samples_given=True).reasons[0].startswith("critical")


@pytest.mark.parametrize(
    ("codes", "worst"),
    [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 2], 2), ([2, 1, 3], 1)],
)
def test_several_models_exit_with_the_worst(codes: list[int], worst: int) -> None:
    assert overall_exit(codes) == worst
