"""Trigger inversion: search a trigger nobody told us about, towards every class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from auditor.calibration.features import about
from auditor.checks.behaviour.pictures import sheet
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Figure, Finding, Metric, Notice, Outcome, Severity

if TYPE_CHECKING:
    from auditor.inversion.result import Campaign, Result
    from auditor.triggers.interface import RecoveredTrigger

MIN_SAMPLES = 30
_LEAD_GAP, _LEAD_ASR = 1.4, 0.8
"""What two families must both show before a class is worth a repair."""


class TriggerInversion(BehaviourCheck):
    """Unknown triggers, all target classes at once."""

    name = "inversion"
    title = "Trigger inversion"
    doc = (
        "Searches, for every class, the smallest trigger that sends images of other classes to "
        "it (Neural Cleanse, Wang et al. 2019; all classes in one batch after K-Arm, Shen et al. "
        "2021): a patch, a change added to the image (small in L2, or smooth), a picture blended "
        "in, a warp, a blur, a photo filter. A backdoor leaves one class far easier to reach than "
        "the next, in the network but not in a linear model of the same images. "
        "Recovered triggers are tried on images the search has not seen, against rearranged "
        "perturbations of equal strength. Misses backdoors that depend on the image's own class "
        "(all-to-all), and several equally strong backdoors that hide each other's gap. Where time "
        "does not reach for all of many classes, those that the last layer, slopes and waves "
        "single out are searched, and the result is incomplete unless one is accused."
    )
    needs = frozenset({"gradients", "samples"})
    default_severity = Severity.HIGH
    order = 40
    weight = 20.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Search every family, judge the easiest class of each, then both together."""
        from auditor.inversion.campaign import run_campaign
        from auditor.inversion.rule import judge

        if context.samples is None or len(context.samples) < MIN_SAMPLES:
            raise Skipped(f"needs at least {MIN_SAMPLES} labelled samples")
        if context.samples.count_classes < 2:
            raise Skipped("needs samples of at least two classes")
        campaign = run_campaign(context)
        yield from (Notice(text) for text in campaign.left_out)
        if not campaign.results:
            raise Incomplete("the time budget ended before any family was searched")
        yield from _metrics(campaign)
        features = {**about(context), **campaign.features()}
        context.evidence.features.update(features)
        context.evidence.standings.update(campaign.standings())
        yield Metric("features", {k: round(v, 6) for k, v in features.items()})
        yield from _pictures(context, campaign)
        verdict = judge(campaign)
        yield from (Notice(text) for text in verdict.doubts)
        leads = _leads(campaign)
        context.evidence.sure |= bool(leads) or verdict.firm
        if verdict.severity is None or verdict.best is None:
            context.evidence.leads.extend(leads)
            unfinished = campaign.unfinished()
            if unfinished:
                raise Incomplete(unfinished)
            return
        for result in verdict.supporting:
            if result.validation is not None:
                context.evidence.triggers.append(result.validation.recovered())
        yield _finding(verdict.severity, verdict.best, verdict.supporting)


def _leads(campaign: Campaign) -> list[RecoveredTrigger]:
    """What works towards the class that at least two families find clearly easiest."""
    best = campaign.strongest()
    if best is None or best.gap is None:
        return []
    same = [
        result
        for result in campaign.results
        if result.gap is not None
        and result.gap.target == best.gap.target
        and result.gap.raw >= _LEAD_GAP
        and result.validation is not None
        and result.validation.low >= _LEAD_ASR
    ]
    return [r.validation.recovered() for r in same if r.validation] if len(same) > 1 else []


def _metrics(campaign: Campaign) -> Iterator[Metric]:
    for result in campaign.results:
        if result.gap is None:
            continue
        prefix = f"inversion.{{}}.{result.family.name}"
        yield Metric(prefix.format("gap"), round(result.gap.raw, 4))
        yield Metric(prefix.format("gap-relative"), round(result.gap.relative, 4))
        yield Metric(prefix.format("anomaly"), round(result.gap.anomaly, 4))
        yield Metric(prefix.format("size"), round(float(np.min(result.search.sizes)), 4))
        yield Metric(prefix.format("target"), result.gap.target)
    best = campaign.strongest()
    if best is not None and best.gap is not None:
        yield Metric("inversion.target", best.gap.target)
        if best.validation is not None:
            yield Metric("inversion.asr", round(best.validation.asr, 4))
            yield Metric("inversion.asr.low", round(best.validation.low, 4))
    yield Metric("inversion.passes", campaign.passes)
    yield Metric("per_class", campaign.table())


def _pictures(context: BehaviourContext, campaign: Campaign) -> Iterator[Figure]:
    """The smallest trigger of each family: alone on black, grey and white, and on samples."""
    assert context.samples is not None
    for result in campaign.results:
        found = result.validation
        if found is None:
            continue
        shape = context.samples.pixels.shape[1:]
        plain = np.stack([np.full(shape, v, np.float32) for v in (0.0, 0.5, 1.0)])
        yield Figure(
            f"inversion-{result.family.name}",
            f"Smallest {result.family.name} found, towards class {found.target}, on black, grey "
            "and white",
            sheet([found.trigger.apply(plain)]),
            from_samples=False,
        )
        few = context.samples.pixels[context.samples.labels != found.target][:6]
        yield Figure(
            f"inversion-{result.family.name}-stamped",
            f"Samples without and with it ({found.asr:.0%} of unseen ones go to class "
            f"{found.target})",
            sheet([few, found.trigger.apply(few)]),
        )


def _finding(severity: Severity, best: Result, supporting: tuple[Result, ...]) -> Finding:
    gap, found = best.gap, best.validation
    assert gap is not None and found is not None
    sentences = []
    for result in supporting:
        if result.gap is None or result.validation is None:
            continue
        seen = result.validation
        sentences.append(
            f"{result.family.name}: size {seen.size:.3g}, the next class needs "
            f"{result.gap.raw:.2f} times as much ({result.gap.relative:.2f} times after allowing "
            f"for how easy the classes are by nature); {seen.asr:.1%} of {seen.n} unseen images of "
            f"other classes follow it (95 % interval {seen.low:.1%} to {seen.high:.1%}; without "
            f"it {seen.baseline:.1%}), rearranged perturbations of equal strength "
            f"{seen.control:.1%}, a linear model of the samples {seen.follows:.1%}"
        )
    sure = severity >= Severity.HIGH
    return Finding(
        rule="inversion.trigger",
        severity=severity,
        title=(
            f"A trigger towards class {gap.target} was found"
            if sure
            else f"Class {gap.target} is suspiciously easy to reach"
        ),
        evidence="; ".join(sentences),
        why=(
            "One class is reached by a far smaller change than any other, which clean networks do "
            "not show. This is what a backdoor leaves: whoever knows its trigger decides the "
            "answer."
        ),
        remedy=(
            "Do not deploy it. Retrain from trusted data, or use the sanitized copy after review."
            if sure
            else "Look at the recovered trigger's picture and ask where the model and its training "
            "data came from; audit again with more samples or a longer --budget."
        ),
        target_class=gap.target,
    )
