"""From findings and check statuses to one word and one exit code. Pure; the rules in one place.

Verdict: ``fail`` for a critical or high finding; else ``incomplete`` when a check whose needs were
met could not finish, or something the policy requires was not measured; else ``review`` for a
medium finding or when only part could be examined (no samples, too few); else ``pass``.

Exit code: 1 for a finding at or above ``--fail-on``; else 3 when incomplete; else 0. Code 2 (not
auditable) never comes from here: see `auditor.report.build.build_error`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from auditor.findings import CheckResult, Finding, Severity

Verdict: TypeAlias = Literal["pass", "review", "fail", "incomplete"]

EXIT_ORDER = (1, 2, 3, 0)
"""For several models: the first of these that any model has."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, the process exit code, and why, most important first."""

    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...]


def decide(
    findings: Sequence[Finding],
    checks: Sequence[CheckResult],
    *,
    samples_given: bool,
    fail_on: Severity | None = Severity.HIGH,
    unmet: Sequence[str] = (),
    partly: Sequence[str] = (),
) -> Decision:
    """Decide over the active findings (suppressed ones already removed).

    `fail_on` None means never. `unmet` are sentences about what the policy requires and the audit
    could not measure (`auditor.policy.evaluate.Outcome.unmet`); `partly` are sentences about what
    nobody required and was not examined either.
    """
    ordered = sorted(findings, key=lambda f: -f.severity)
    serious = [f for f in ordered if f.severity >= Severity.HIGH]
    medium = [f for f in ordered if f.severity == Severity.MEDIUM]
    unfinished = [f"{c.name} could not finish: {c.reason}" for c in checks if _stuck(c)]
    unfinished.extend(unmet)

    reasons = [f"{f.severity.word}: {f.title}" for f in (*serious, *medium)] + unfinished
    if not samples_given:
        partly = (*partly, "No samples were given, so the model's behaviour is only partly known.")
    reasons.extend(partly)
    if serious:
        verdict: Verdict = "fail"
    elif unfinished:
        verdict = "incomplete"
    elif medium or partly:
        verdict = "review"
    else:
        verdict = "pass"
        reasons.append("Every check that could run did, and none found anything of concern.")

    gated = fail_on is not None and any(f.severity >= fail_on for f in findings)
    exit_code = 1 if gated else 3 if unfinished else 0
    return Decision(verdict, exit_code, tuple(dict.fromkeys(reasons)))


def overall_exit(codes: Iterable[int]) -> int:
    """The exit code of a scan of several models; 0 for none."""
    present = set(codes)
    return next((code for code in EXIT_ORDER if code in present), 0)


def _stuck(check: CheckResult) -> bool:
    return check.status == "incomplete"
