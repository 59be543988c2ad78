"""Trigger probing: stamp known triggers on clean images and see whether one class answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.checks.behaviour.controls import Reference, control_images
from auditor.checks.behaviour.pictures import before_after
from auditor.checks.interface import BehaviourCheck, BehaviourContext, Incomplete, Skipped
from auditor.findings import Figure, Finding, Metric, Notice, Outcome, Severity
from auditor.samples.interface import Images
from auditor.statistics import wilson
from auditor.triggers.interface import RecoveredTrigger, Trigger
from auditor.triggers.library import probe_library

_SCREEN, _CONFIRM, _FINALISTS = 48, 300, 6
_ASR_LOW, _SPECIFIC = 0.7, 0.5
_WORKS, _RELATIVES = 0.6, 6
_TRANSFORMS = frozenset({"blur", "filter", "warp"})
"""Families under which clean networks collapse into one class as well: told, never accused."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One trigger's best target: `asr` with its interval, `baseline` on the clean images."""

    trigger: Trigger
    target: int
    asr: float
    low: float
    high: float
    baseline: float
    n: int


class TriggerProbing(BehaviourCheck):
    """Known triggers, every target class, judged against equal perturbations."""

    name = "probe"
    title = "Trigger probing"
    doc = (
        "Stamps a library of known triggers (BadNets, Gu et al. 2017; blended, Chen et al. 2017; "
        "SIG, Barni et al. 2019; WaNet, Nguyen & Tran 2021) on clean images and measures the "
        "attack success rate (ASR) per target class against the rate on clean images. A hit counts "
        "only if rearranged perturbations of the same strength and an independent reference model "
        "do not do the same. Misses triggers unlike any in the library; blur, warp and colour "
        "filters are measured, but clean networks collapse into one class under them as well, so "
        "they are only told."
    )
    needs = frozenset({"predictions", "samples"})
    default_severity = Severity.HIGH
    order = 30
    weight = 3.0

    def observe(self, context: BehaviourContext) -> Iterator[Outcome]:
        """Screen the library on few images, confirm the best on more, then judge them."""
        samples = _eligible(context)
        clean = context.classifier.labels(samples.pixels)
        channels, height, width = samples.pixels.shape[1:]
        library = probe_library(channels, height, width)
        screened = list(_screen(context, library, samples, clean))
        if not screened:
            raise Incomplete("the time budget ended before any trigger was tried")
        if len(screened) < len(library):
            yield Notice(f"Probing tried {len(screened)} of {len(library)} triggers (time budget).")
        screened.sort(key=lambda p: p.baseline - p.asr)
        many = samples.take(slice(0, _CONFIRM))
        finalists = [
            _measure(context, p.trigger, many, clean[: len(many)], only=p.target)
            for p in screened[:_FINALISTS]
        ]
        finalists.sort(key=lambda p: (-round(p.asr - p.baseline, 2), _strength(p.trigger, many)))
        yield Metric("probe.triggers", len(screened))
        yield Metric("probe.asr.max", finalists[0].asr)
        yield Metric("probe.asr.low", finalists[0].low)
        yield Metric("probe.trigger", finalists[0].trigger.name)
        yield Metric("probe.target", finalists[0].target)
        yield Metric("table", [_row(p) for p in finalists])
        attractors = _attractors(screened, many)
        yield from _judge(context, finalists, many, clean[: len(many)], attractors)
        context.evidence.relatives += list(_relatives(context, screened, many))


def _relatives(
    context: BehaviourContext, screened: list[Probe], samples: Images
) -> Iterator[RecoveredTrigger]:
    """Other known triggers that work towards a convicted class, of as many kinds as there are.

    A repair that knows one of them alone may leave the attacker's own, which is another.
    """
    convicted = [t for t in context.evidence.triggers if t.source == "probe"]
    names = {t.trigger.name for t in convicted}
    for target in sorted({t.target for t in convicted}):
        seen: Counter[str] = Counter()
        able: list[tuple[int, Probe]] = []
        for probe in screened:
            family = probe.trigger.family
            if probe.target != target or probe.asr - probe.baseline < _WORKS:
                continue
            if family in _TRANSFORMS or probe.trigger.name in names:
                continue
            if not _spread_out(probe.trigger, samples):
                able.append((seen[family], probe))
                seen[family] += 1
        able.sort(key=lambda pair: pair[0])  # the best of every family, then the second best
        yield from (_recovered(probe, samples) for _, probe in able[:_RELATIVES])


def _recovered(probe: Probe, samples: Images) -> RecoveredTrigger:
    size = _strength(probe.trigger, samples)
    return RecoveredTrigger(probe.trigger, probe.target, probe.asr, probe.baseline, size, "probe")


def _eligible(context: BehaviourContext) -> Images:
    if context.samples is None or len(context.samples) < 10:
        raise Skipped("needs at least 10 labelled samples")
    return context.samples


def _screen(
    context: BehaviourContext, library: list[Trigger], samples: Images, clean: NDArray[np.int64]
) -> Iterator[Probe]:
    """Every trigger on a few images: fewer when the model is slow, until the budget ends."""
    few = samples.take(slice(0, _SCREEN))
    started = time.monotonic()
    for done, trigger in enumerate(library):
        if context.budget.spent:
            return
        yield _measure(context, trigger, few, clean[: len(few)])
        per_image = (time.monotonic() - started) / ((done + 1) * len(few))
        affordable = int(context.budget.left * 0.7 / max(per_image, 1e-9) / (len(library) - done))
        if affordable < len(few) and len(few) > 12:
            few = samples.take(slice(0, max(12, affordable)))


def _measure(
    context: BehaviourContext,
    trigger: Trigger,
    samples: Images,
    clean: NDArray[np.int64],
    only: int | None = None,
) -> Probe:
    """ASR of `trigger` for its best target (or `only`), over images of other classes."""
    after = context.classifier.labels(trigger.apply(samples.pixels))
    classes = range(context.classifier.classes) if only is None else (only,)
    best: Probe | None = None
    for target in classes if only is not None else np.unique(after):
        others = samples.labels != target
        n = int(others.sum())
        if n == 0:
            continue
        hits = int((after[others] == target).sum())
        baseline = float((clean[others] == target).mean())
        interval = wilson(hits, n)
        probe = Probe(trigger, int(target), hits / n, interval.low, interval.high, baseline, n)
        if best is None or probe.asr - probe.baseline > best.asr - best.baseline:
            best = probe
    if best is None:  # every sample belongs to the one class predicted
        return Probe(trigger, int(after[0]), 0.0, 0.0, 1.0, 0.0, 0)
    return best


def _strength(trigger: Trigger, samples: Images) -> float:
    few = samples.pixels[:16]
    return float(np.square(trigger.apply(few) - few).sum(axis=(1, 2, 3)).mean() ** 0.5)


def _row(probe: Probe) -> dict[str, object]:
    return {
        "trigger": probe.trigger.name,
        "family": probe.trigger.family,
        "target": probe.target,
        "asr": round(probe.asr, 4),
        "low": round(probe.low, 4),
        "high": round(probe.high, 4),
        "baseline": round(probe.baseline, 4),
        "n": probe.n,
    }


def _spread_out(trigger: Trigger, samples: Images) -> bool:
    """True for triggers that change most of the image: noise, blur, warp, filters."""
    few = samples.pixels[:8]
    return bool((np.abs(trigger.apply(few) - few) > 1e-6).any(axis=(0, 1)).mean() > 0.5)


def _attractors(screened: list[Probe], samples: Images) -> dict[int, set[str]]:
    """Per class: the families of spread-out triggers that send most images there.

    A class that answers blur and contrast and noise alike is where this network collapses when
    images look strange, as many clean ones do; it says nothing about a backdoor.
    """
    found: dict[int, set[str]] = {}
    for probe in screened:
        if probe.asr - probe.baseline >= 0.5 and _spread_out(probe.trigger, samples):
            found.setdefault(probe.target, set()).add(probe.trigger.family)
    return found


def _judge(
    context: BehaviourContext,
    finalists: list[Probe],
    samples: Images,
    clean: NDArray[np.int64],
    attractors: dict[int, set[str]],
) -> Iterator[Outcome]:
    """A finding for each target whose best trigger succeeds where its controls do not."""
    reference: Reference | None = None
    judged: set[int] = set()
    for probe in finalists:
        if probe.low < _ASR_LOW or probe.asr - probe.baseline < _WORKS or probe.target in judged:
            continue
        unrelated = attractors.get(probe.target, set()) - {probe.trigger.family}
        if unrelated and _spread_out(probe.trigger, samples):
            yield Notice(
                f"{probe.trigger.name} sends {probe.asr:.0%} of images to class {probe.target}, "
                f"but so do unrelated changes of the whole image ({', '.join(sorted(unrelated))}): "
                "this is where the model collapses, not evidence of a backdoor."
            )
            continue
        if probe.trigger.family in _TRANSFORMS:
            yield Notice(
                f"{probe.trigger.name} sends {probe.asr:.0%} of images to class {probe.target}. "
                "Many clean networks collapse like this; only a trigger search can tell."
            )
            continue
        others = (samples.labels != probe.target) & (clean != probe.target)
        before = samples.pixels[others][:100]
        stamped = probe.trigger.apply(before)
        controls = control_images(before, stamped, context.seed)
        rates = [float((context.classifier.labels(c) == probe.target).mean()) for c in controls]
        reference = reference or Reference(samples, context.seed)
        follows = reference.asr(before, stamped, probe.target)
        if np.mean(rates) > _SPECIFIC * probe.asr or follows > _SPECIFIC:
            yield Notice(
                f"{probe.trigger.name} sends {probe.asr:.0%} of images to class {probe.target}, "
                f"but rearranged perturbations do so too ({np.mean(rates):.0%} on average) or a "
                f"reference model follows ({follows:.0%}): fragility, not evidence of a backdoor."
            )
            continue
        judged.add(probe.target)
        context.evidence.sure = True
        context.evidence.triggers.append(_recovered(probe, samples))
        yield _finding(probe, float(np.mean(rates)), follows)
        picture = before_after(before[:6], stamped[:6])
        yield Figure("probe-trigger", f"Clean and stamped with {probe.trigger.name}", picture)


def _finding(probe: Probe, control: float, follows: float) -> Finding:
    return Finding(
        rule="probe.trigger",
        severity=Severity.HIGH,
        title=f"A known trigger sends images to class {probe.target}",
        evidence=(
            f"{probe.trigger.name}: {probe.asr:.1%} of {probe.n} images of other classes go to "
            f"class {probe.target} (95 % interval {probe.low:.1%} to {probe.high:.1%}); without it "
            f"{probe.baseline:.1%}; with rearranged perturbations of equal strength {control:.1%}; "
            f"an independent reference model follows in {follows:.1%}"
        ),
        why=(
            "Whoever knows this trigger decides what the model answers. This is the behaviour of a "
            "backdoored model (all-to-one attack)."
        ),
        remedy=(
            "Do not deploy it. Retrain from trusted data, or use the sanitized copy after review."
        ),
        target_class=probe.target,
    )
