"""Two reports of one model's versions: what got worse, what got better. Pure.

A metric counts only where its direction is known: accuracy and robustness should not fall, attack
success and backdoor probability should not rise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from auditor.findings import Severity
from auditor.report.model import FindingRecord, Report
from auditor.report.text import number

_ORDER = ("pass", "review", "incomplete", "fail")
_HIGHER_IS_BETTER = ("accuracy.clean", "robustness.")
_LOWER_IS_BETTER = ("probe.asr.max", "inversion.asr", "backdoor.probability")


@dataclass(frozen=True, slots=True)
class Change:
    """One metric in both reports; `worse` is None where no direction is known."""

    metric: str
    before: float
    after: float
    worse: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`regressions` are sentences; empty means that nothing got worse beyond the tolerance."""

    before: Report
    after: Report
    regressions: tuple[str, ...]
    new: tuple[FindingRecord, ...]
    fixed: tuple[FindingRecord, ...]
    changes: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "before": _identity(self.before),
            "after": _identity(self.after),
            "regressions": list(self.regressions),
            "new_findings": [f.model_dump(mode="json") for f in self.new],
            "fixed_findings": [f.model_dump(mode="json") for f in self.fixed],
            "metrics": [
                {"name": c.metric, "before": c.before, "after": c.after}
                | ({} if c.worse is None else {"worse": c.worse})
                for c in self.changes
            ],
        }


def compare(
    before: Report,
    after: Report,
    *,
    tolerance: float = 0.01,
    fail_on: Severity | None = Severity.HIGH,
) -> Comparison:
    """Compare by finding fingerprint and metric name.

    A regression is a worse verdict, a new finding at or above `fail_on`, a check that ran before
    and does not now, or a metric that moved the wrong way by more than `tolerance`.
    """
    old = {f.fingerprint: f for f in before.findings}
    now = {f.fingerprint: f for f in after.findings}
    new = tuple(f for key, f in now.items() if key not in old)
    fixed = tuple(f for key, f in old.items() if key not in now)
    changes = tuple(_changes(before, after, tolerance))
    regressions = [
        *_verdict(before, after),
        *_findings(new, fail_on),
        *_checks(before, after),
        *(
            f"{c.metric} went from {number(c.before)} to {number(c.after)}"
            for c in changes
            if c.worse
        ),
    ]
    return Comparison(before, after, tuple(regressions), new, fixed, changes)


def _identity(report: Report) -> dict[str, str]:
    a = report.artifact
    return {"path": a.path, "sha256": a.sha256, "verdict": report.verdict}


def _verdict(before: Report, after: Report) -> Iterator[str]:
    if _ORDER.index(after.verdict) > _ORDER.index(before.verdict):
        yield f"the verdict went from {before.verdict} to {after.verdict}"


def _findings(new: tuple[FindingRecord, ...], fail_on: Severity | None) -> Iterator[str]:
    for f in new:
        if fail_on is not None and Severity.parse(f.severity) >= fail_on:
            yield f"new {f.severity} finding {f.rule}: {f.title}"


def _checks(before: Report, after: Report) -> Iterator[str]:
    ran = {c.name for c in before.checks if c.status in ("passed", "flagged")}
    still = {c.name for c in after.checks if c.status in ("passed", "flagged")}
    for name in sorted(ran - still):
        yield f"the check {name} ran before and does not now"


def _changes(before: Report, after: Report, tolerance: float) -> Iterator[Change]:
    for name, old in before.metrics.items():
        now = after.metrics.get(name)
        if not (_real(old) and _real(now)) or old == now:
            continue
        yield Change(
            name, float(old), float(now or 0), _worse(name, float(old), float(now or 0), tolerance)
        )


def _worse(name: str, old: float, now: float, tolerance: float) -> bool | None:
    if name in _LOWER_IS_BETTER:
        return now > old + tolerance
    if name == _HIGHER_IS_BETTER[0] or (name.startswith(_HIGHER_IS_BETTER[1]) and "@" in name):
        return now < old - tolerance
    return None


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
