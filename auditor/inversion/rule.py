"""From a campaign to a severity, until a calibrated model takes over: few, documented bounds."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.findings import Severity
from auditor.inversion.campaign import Campaign, Result

STRONG = {"patch": 2.2, "additive": 1.6}
"""Honest gap at which one family alone, confirmed on held-out images, is strong evidence."""

WEAK = {"patch": 1.6, "additive": 1.3}
"""Honest gap at which a person should look; two agreeing families at this level are strong."""

MAX_SHARE = {"patch": 0.15, "additive": 0.35}
"""A trigger larger than this share of the image may be the class itself, painted over."""

MIN_LOW = 0.6
"""Lower end of the held-out ASR's 95 % interval."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`severity` None: nothing to report. `doubts` explain why an easy class was not reported."""

    severity: Severity | None
    best: Result | None
    supporting: tuple[Result, ...]
    doubts: tuple[str, ...] = ()


def judge(campaign: Campaign) -> Verdict:
    """HIGH for strong evidence of one family or agreeing weak evidence of two, MEDIUM for weak."""
    doubts: list[str] = []
    weak = [r for r in campaign.results if _reaches(r, WEAK) and _confirmed(r, doubts)]
    if not weak:
        return Verdict(None, None, (), tuple(doubts))
    best = max(weak, key=_excess)
    assert best.gap is not None
    same = tuple(r for r in weak if r.gap is not None and r.gap.target == best.gap.target)
    strong = len(same) > 1 or _reaches(best, STRONG)
    severity = Severity.HIGH if strong else Severity.MEDIUM
    return Verdict(severity, best, same, tuple(doubts))


def _excess(result: Result) -> float:
    """How far above the family's own bound, so that families compare."""
    return result.gap.honest / WEAK[result.family.name] if result.gap is not None else 0.0


def _reaches(result: Result, bounds: dict[str, float]) -> bool:
    return (
        result.gap is not None
        and result.validation is not None
        and result.gap.honest >= bounds[result.family.name]
        and result.gap.share <= MAX_SHARE[result.family.name]
    )


def _confirmed(result: Result, doubts: list[str]) -> bool:
    """Held-out images follow; rearranged perturbations and a linear model do not."""
    found = result.validation
    assert found is not None and result.gap is not None
    why = ""
    if found.low < MIN_LOW or found.asr - found.baseline < 0.5:
        why = f"only {found.asr:.0%} of unseen images follow the recovered trigger"
    elif found.control > 0.5 * found.asr:
        why = f"rearranged perturbations of equal strength do the same ({found.control:.0%})"
    elif found.follows > 0.5:
        why = f"a linear model of the samples follows it too ({found.follows:.0%})"
    if not why:
        return True
    doubts.append(
        f"Class {result.gap.target} is easy to reach by a {result.family.name} trigger (gap "
        f"{result.gap.raw:.2f}), but {why}: fragility, not evidence of a backdoor."
    )
    return False
