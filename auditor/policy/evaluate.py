"""A policy applied to what the checks found: pure, and the only place where findings are dropped.

Order: severities by rule, thresholds (each failing one is a finding), suppressions, baseline.
What the policy requires and nobody measured is `unmet`: it makes the audit incomplete (exit 3),
never a silent pass.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from auditor.findings import CheckResult, Finding, Severity
from auditor.policy.baseline import Baseline
from auditor.policy.model import Policy, Suppression, Threshold
from auditor.report.build import finding_record, flat_metrics
from auditor.report.model import SuppressionRecord

RAISED_BY = "policy"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`findings` are those that count, with the check that raised each, as `Parts` takes them.

    `unmet` goes to `auditor.verdict.decide`, `notices` into the report.
    """

    findings: tuple[tuple[str, Finding], ...]
    suppressions: tuple[SuppressionRecord, ...] = ()
    unmet: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def evaluate(
    policy: Policy,
    checks: Sequence[CheckResult],
    *,
    path: str,
    today: datetime.date,
    baseline: Baseline | None = None,
    metrics: Mapping[str, object] | None = None,
) -> Outcome:
    """Apply `policy` to the results of one model, reported under `path`.

    `metrics` adds to the scalars of the checks, as in `auditor.report.build.Parts`.
    """
    flat = flat_metrics(checks, metrics or {}, [])
    found = [(check.name, _reweighed(policy, f)) for check in checks for f in check.findings]
    unmet = list(_unmet_checks(policy, checks))
    for text in policy.thresholds:
        threshold = Threshold.parse(text)
        value = flat.get(threshold.metric)
        if isinstance(value, int | float):
            if not threshold.holds(value):
                found.append((RAISED_BY, _reweighed(policy, _failed(policy, threshold, value))))
        else:
            unmet.append(f"The policy requires {threshold}, which was not measured.")

    kept: list[tuple[str, Finding]] = []
    dropped: list[SuppressionRecord] = []
    lapsed: dict[int, Suppression] = {}
    used: set[int] = set()
    for check, finding in found:
        covering = [i for i, s in enumerate(policy.suppress) if s.covers(finding, path)]
        used.update(covering)
        valid = [policy.suppress[i] for i in covering if policy.suppress[i].expires >= today]
        if valid:
            dropped.append(_by_policy(valid[0], finding, check))
            continue
        lapsed.update({i: policy.suppress[i] for i in covering})
        if baseline is not None and not covering and baseline.knows(finding, path):
            record = finding_record(finding, check)
            dropped.append(
                SuppressionRecord(kind="baseline", reason="known in the baseline", finding=record)
            )
            continue
        kept.append((check, finding))
    kept += [(RAISED_BY, _reweighed(policy, _expired(s))) for s in lapsed.values()]
    unused = [s for i, s in enumerate(policy.suppress) if i not in used]
    notices = tuple(f"The suppression of {s.rule} matched nothing in this model." for s in unused)
    return Outcome(tuple(kept), tuple(dropped), tuple(unmet), notices)


def _reweighed(policy: Policy, finding: Finding) -> Finding:
    severity = policy.severity_of(finding.rule)
    return finding if severity is None else replace(finding, severity=severity)


def _unmet_checks(policy: Policy, checks: Sequence[CheckResult]) -> Iterator[str]:
    results = {check.name: check for check in checks}
    for name in policy.required:
        check = results.get(name)
        if check is None:
            yield f"The policy requires the check {name}, which was not run."
        elif check.status in ("skipped", "incomplete"):
            yield f"The policy requires the check {name}, which was {check.status}: {check.reason}"


def _failed(policy: Policy, threshold: Threshold, value: float) -> Finding:
    return Finding(
        rule="policy.threshold",
        severity=Severity.parse(policy.threshold_severity),
        title=f"The policy requires {threshold}; measured {value:.6g}",
        evidence=f"{threshold.metric} = {value:.6g}, required {threshold.comparison} "
        f"{threshold.bound:g}.",
        why="The model does not meet what this organisation decided to accept.",
        remedy="Improve the model, or change the policy in a reviewed commit.",
        location=threshold.metric,
    )


def _expired(suppression: Suppression) -> Finding:
    return Finding(
        rule="policy.expired",
        severity=Severity.HIGH,
        title=f"The suppression of {suppression.rule} expired on {suppression.expires}",
        evidence=f"It still matches a finding. Its reason was: {suppression.reason}",
        why="What was accepted for a time is now accepted by nobody.",
        remedy="Fix the finding, or renew the suppression with a new reason and date.",
        location=suppression.rule,
    )


def _by_policy(suppression: Suppression, finding: Finding, check: str) -> SuppressionRecord:
    return SuppressionRecord(
        kind="policy",
        reason=suppression.reason,
        expires=suppression.expires.isoformat(),
        finding=finding_record(finding, check),
    )
