"""What the second audit of a repaired copy says decides whether it is handed out."""

from __future__ import annotations

import pytest

from auditor.findings import Finding, Severity
from auditor.proof import Outcome


def finding(rule: str, severity: Severity, target: int | None = 8) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        title="A known trigger sends images to class 8",
        evidence="square-4x4: 95.9% of 270 images go to class 8",
        why="",
        remedy="",
        target_class=target,
    )


def test_a_copy_on_which_a_known_trigger_works_is_not_handed_out() -> None:
    outcome = Outcome()
    outcome.hear([finding("probe.trigger", Severity.HIGH)])
    said = outcome.objection(0.02, graph=False)
    assert "still backdoored (A known trigger sends images to class 8)" in said


@pytest.mark.parametrize(
    "harmless",
    [
        finding("probe.trigger", Severity.MEDIUM),
        finding("probe.trigger", Severity.HIGH, None),
        finding("robustness.weak", Severity.MEDIUM),
    ],
)
def test_other_findings_are_no_objection(harmless: Finding) -> None:
    outcome = Outcome()
    outcome.hear([harmless])
    assert outcome.objection(0.02, graph=False) == ""
    assert not outcome.doubts


def test_a_class_the_search_still_convicts_is_told_and_no_objection() -> None:
    outcome = Outcome()
    outcome.hear([finding("inversion.trigger", Severity.HIGH)])
    assert outcome.objection(0.02, graph=False) == ""
    assert outcome.doubts == ["A known trigger sends images to class 8"]
