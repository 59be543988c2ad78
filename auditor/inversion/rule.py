"""From a campaign to a severity: few bounds, each measured and kept with its family of trigger."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.findings import Severity
from auditor.inversion.attraction import ATTRACTED
from auditor.inversion.bounds import Collapse
from auditor.inversion.families import Patch
from auditor.inversion.result import MIN_PROGRESS, Campaign, Result

MIN_LOW = 0.6
"""Lower end of the held-out ASR's 95 % interval."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`severity` None: nothing to report. `doubts` explain why an easy class was not reported."""

    severity: Severity | None
    best: Result | None
    supporting: tuple[Result, ...]
    doubts: tuple[str, ...] = ()

    @property
    def firm(self) -> bool:
        """Whether a repair may spend accuracy on it: HIGH, or one family beyond its strong bound.

        Not one under which clean networks collapse anywhere: a blur, or what nobody has measured.
        """
        if self.severity is not None and self.severity >= Severity.HIGH:
            return True
        return any(
            r.family.bounds.collapse is not Collapse.ANYWHERE
            and _reaches(r, r.family.bounds.strong)
            for r in self.supporting
        )


def judge(campaign: Campaign) -> Verdict:
    """HIGH for strong evidence, or weak evidence with another family that agrees; else MEDIUM."""
    doubts: list[str] = []
    weak = [
        r
        for r in campaign.results
        if _weak(r, campaign) and _confirmed(r, doubts) and _own_merit(r, campaign, doubts)
    ]
    if not weak:
        return Verdict(None, None, (), tuple(doubts))
    best = max(weak, key=_excess)
    assert best.gap is not None
    target = best.gap.target
    same = tuple(
        r
        for r in campaign.results
        if r.gap is not None
        and r.gap.target == target
        and (r is best or (_reaches(r, r.family.bounds.agree) and _confirmed(r, [])))
    )
    seconded = len(same) > 1 or campaign.margin_target == target
    accusing = [r for r in same if r.family.bounds.accuses]
    agreed = _reaches(best, best.family.bounds.weak) and seconded and best.attraction < ATTRACTED
    alone = any(_reaches(r, r.family.bounds.strong) for r in accusing)
    strong = bool(accusing) and (agreed or alone)
    return Verdict(Severity.HIGH if strong else Severity.MEDIUM, best, same, tuple(doubts))


def _own_merit(result: Result, campaign: Campaign, doubts: list[str]) -> bool:
    """False for what clean networks do as well, unless a patch leads to the same class.

    A blur that makes all images one class, and a pattern over the image towards the class where
    plain noise leads anyway, are how ordinary networks fail. The patch must stand on its own feet:
    residual networks of MNIST send noise, rearranged patches and patterns to class 8 alike.
    """
    collapse = result.family.bounds.collapse
    if collapse is Collapse.NOWHERE:
        return True
    if collapse is Collapse.NOISE and result.attraction < ATTRACTED:
        return True
    target = result.gap.target if result.gap is not None else None
    patches = [
        r
        for r in campaign.results
        if type(r.family) is Patch and _reaches(r, r.family.bounds.agree)
    ]
    if any(r.gap is not None and r.gap.target == target and _confirmed(r, []) for r in patches):
        return True
    doubts.append(
        f"Class {target} is easy to reach by a {result.family.name} trigger, but no patch leads "
        "there as easily: where this network collapses, not evidence of a backdoor."
    )
    return False


def _weak(result: Result, campaign: Campaign) -> bool:
    """Worth a look by itself, or because the margins single out the same class."""
    bounds = result.family.bounds
    if _reaches(result, bounds.weak):
        return True
    seconded = result.gap is not None and campaign.margin_target == result.gap.target
    return seconded and _reaches(result, bounds.seconded)


def _excess(result: Result) -> float:
    """How far above the family's own bound, so that families compare."""
    return result.gap.honest / result.family.bounds.weak if result.gap is not None else 0.0


def _reaches(result: Result, gap: float) -> bool:
    bounds = result.family.bounds
    return (
        result.gap is not None
        and result.validation is not None
        and not bounds.silent
        and result.gap.honest >= gap
        and result.gap.share <= bounds.share
        and result.progress >= MIN_PROGRESS
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
