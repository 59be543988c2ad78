"""From a campaign to a severity, until a calibrated model takes over: few, documented bounds."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.findings import Severity
from auditor.inversion.attraction import ATTRACTED
from auditor.inversion.result import MIN_PROGRESS, Campaign, Result

SILENT = frozenset({"tone"})
"""Families that neither accuse nor second: clean networks send all flat or pale images to one
class as well, with any gap to the next. They count in the sum over all evidence only."""

_OTHER = 3.0
"""Of a family without a measured bound of its own; such a family never accuses alone."""

STRONG = {"patch": 2.2, "additive": 3.2, "smooth": 2.5, "warp": 3.0, "blur": 3.0}
"""Honest gap at which one family alone, confirmed on held-out images, is strong evidence.

Measured on 15 small clean and adversarially trained networks of the calibration half (digits,
MNIST): patch up to 1.73, additive up to 2.37 (both BatchNorm networks whose class 8 is what noise
leads to; the others up to 1.34 and 1.09), warp up to 1.5. Smooth on 84 of that population: up to
1.73, but for four residual networks whose class 8 is where noise leads (3.3 and more).
"""

WEAK = {"patch": 1.85, "additive": 2.6, "smooth": 2.0, "warp": 2.2, "blur": 3.0}
"""Honest gap at which a person should look."""

AGREE = {"patch": 1.4, "additive": 1.4, "smooth": 1.4, "warp": 1.5, "blur": 3.0}
"""Honest gap at which another family, by naming the same class, makes weak evidence strong."""

SECONDED = {"patch": 1.35, "additive": 1.35, "smooth": 1.6, "warp": 2.2, "blur": 3.0}
"""Honest gap worth a look when the class's margin stands out as well (MM-BD, no samples used)."""

MAX_SHARE = {"patch": 0.15, "additive": 0.35, "smooth": 0.35, "warp": 0.25, "blur": 0.2}
"""A trigger larger than this share of the image may be the class itself, painted over; a stronger
blur or warp than this may make all images look alike."""

_MOST = 0.3
"""The same for a family without a measured bound."""

ACCUSES = frozenset({"patch", "additive", "smooth"})
"""Families that can be strong evidence by themselves. Blur and warp cannot: published clean
networks of MNIST send every blurred digit to one class, with any gap to the next."""

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

        Not a blur, under which clean networks collapse as well.
        """
        if self.severity is not None and self.severity >= Severity.HIGH:
            return True
        return any(r.family.name != "blur" and _reaches(r, STRONG) for r in self.supporting)


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
        and (r is best or (_reaches(r, AGREE) and _confirmed(r, [])))
    )
    seconded = len(same) > 1 or campaign.margin_target == target
    accusing = [r for r in same if r.family.name in ACCUSES]
    agreed = _reaches(best, WEAK) and seconded and best.attraction < ATTRACTED
    strong = bool(accusing) and (agreed or any(_reaches(r, STRONG) for r in accusing))
    return Verdict(Severity.HIGH if strong else Severity.MEDIUM, best, same, tuple(doubts))


def _own_merit(result: Result, campaign: Campaign, doubts: list[str]) -> bool:
    """False for what clean networks do as well, unless a patch leads to the same class.

    A blur that makes all images one class, and a pattern over the image towards the class where
    plain noise leads anyway, are how ordinary networks fail. The patch must stand on its own feet:
    residual networks of MNIST send noise, rearranged patches and patterns to class 8 alike.
    """
    name = result.family.name
    if name in {"patch", "warp"}:
        return True
    if name in {"additive", "smooth", "blend"} and result.attraction < ATTRACTED:
        return True
    target = result.gap.target if result.gap is not None else None
    patches = [r for r in campaign.results if r.family.name == "patch" and _reaches(r, AGREE)]
    if any(r.gap is not None and r.gap.target == target and _confirmed(r, []) for r in patches):
        return True
    doubts.append(
        f"Class {target} is easy to reach by a {name} trigger, but no patch leads there as easily: "
        "where this network collapses, not evidence of a backdoor."
    )
    return False


def _weak(result: Result, campaign: Campaign) -> bool:
    """Worth a look by itself, or because the margins single out the same class."""
    if _reaches(result, WEAK):
        return True
    seconded = result.gap is not None and campaign.margin_target == result.gap.target
    return seconded and _reaches(result, SECONDED)


def _excess(result: Result) -> float:
    """How far above the family's own bound, so that families compare."""
    return (
        result.gap.honest / WEAK.get(result.family.name, _OTHER) if result.gap is not None else 0.0
    )


def _reaches(result: Result, bounds: dict[str, float]) -> bool:
    return (
        result.gap is not None
        and result.validation is not None
        and result.family.name not in SILENT
        and result.gap.honest >= bounds.get(result.family.name, _OTHER)
        and result.gap.share <= MAX_SHARE.get(result.family.name, _MOST)
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
