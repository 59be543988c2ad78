"""When the probability alone should make a person look: no single check accuses by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from auditor.calibration.judge import Judgement
from auditor.findings import CheckResult, Finding, Severity

PROBABLE = 0.9
"""Probability from which on a model is suspect by itself; its interval must lie above 0.5."""

CHECK, RULE = "consensus", "consensus.probable"
"""The check whose finding it becomes: it names the class."""

_SPEAKS = ("inversion", "all-to-all", "probe", "data-free")
"""Checks whose own finding already says it, with a trigger to show."""


def told(results: Sequence[CheckResult], said: Judgement) -> list[CheckResult]:
    """`results` with a finding of medium severity where the probability is all that speaks."""
    if not _suspect(said) or any(map(_accuses, results)):
        return list(results)
    return [
        replace(r, status="flagged", findings=(*r.findings, _finding(r, said)))
        if r.name == CHECK and r.status == "passed"
        else r
        for r in results
    ]


def _suspect(said: Judgement) -> bool:
    if said.probability is None or said.interval is None or said.outside:
        return False
    return said.probability >= PROBABLE and said.interval[0] >= 0.5


def _accuses(result: CheckResult) -> bool:
    return result.name in _SPEAKS and any(f.severity >= Severity.MEDIUM for f in result.findings)


def _finding(result: CheckResult, said: Judgement) -> Finding:
    assert said.probability is not None and said.interval is not None
    target = result.metrics.get("consensus.target")
    named = int(target) if isinstance(target, int | float) else None
    low, high = said.interval
    return Finding(
        rule=RULE,
        severity=Severity.MEDIUM,
        title=(
            "Several weak signs together make a backdoor probable"
            + ("" if named is None else f"; they point at class {named}")
        ),
        evidence=(
            f"calibrated probability {said.probability:.2f} ({low:.2f} to {high:.2f}) at even "
            "odds, although no single check accuses; the table of evidence per class shows what "
            "stands out and by how much"
        ),
        why=(
            "Faint triggers spread over the whole image leave no easy patch behind, but the target "
            "class stands out in several measures at once, which clean networks rarely show."
        ),
        remedy=(
            "Ask where the model and its training data came from; audit again with (more) labelled "
            "samples."
        ),
        target_class=named,
    )
