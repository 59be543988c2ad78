"""One audit's inversion: every family in turn within the budget, checked on held-out samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.checks.behaviour.controls import Reference
from auditor.checks.interface import BehaviourContext, Budget
from auditor.inversion.attraction import attraction
from auditor.inversion.character import character, likeness
from auditor.inversion.families import Additive, Family, Patch
from auditor.inversion.features import CAP, Gap, anomaly, gap
from auditor.inversion.reference import linear_reference
from auditor.inversion.search import Inversion, Settings, invert
from auditor.inversion.threads import measured_step
from auditor.inversion.transforms import Smoothing, Warping
from auditor.inversion.validate import Validation, validate
from auditor.samples.interface import Images

if TYPE_CHECKING:
    from auditor.inversion.search import Logits

FAMILIES: dict[type[Family], float] = {Patch: 0.45, Additive: 0.7, Warping: 0.5, Smoothing: 0.8}
"""In order, with the share of what is then left of the budget."""

MIN_PROGRESS = 0.6
"""Share of its steps a search must make to be judged: before, sizes only say who is quicker."""

MARGIN_P = 1e-3
"""From here on MM-BD's p-value counts as a second opinion."""
FIT_SHARE = 0.6
MANY_CLASSES = 40
PRUNE_ABOVE = 12
_REFINE_STEPS, _REFINE_BATCH, _REFINE_ASR = 40, 32, 0.98


@dataclass(slots=True)
class Result:
    """What one family came to. `gap` and `validation` are None when no class was reached.

    `attraction` is the share of answers changed by random disturbances that go to the gap's class;
    `progress` the share of the steps that the budget allowed; `character` what the smallest
    trigger is like, and how far a second search agrees (``repeat``, a cosine, and ``log_repeat``,
    the log of its size over the first's).
    """

    family: Family
    search: Inversion
    reference: NDArray[np.float64] | None
    gap: Gap | None
    validation: Validation | None = None
    attraction: float = 0.0
    progress: float = 1.0
    character: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Campaign:
    """All families' results; `left_out` says in sentences what was not searched.

    `margin_target` is the class whose margin stands out without any sample (MM-BD), if one does.
    """

    results: list[Result] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    classes: int = 0
    passes: int = 0
    margin_target: int | None = None

    def strongest(self) -> Result | None:
        """The pixel family's result with the largest honest gap, else another family's."""
        named = [r for r in self.results if r.gap is not None]
        return max(named, key=_honest, default=None)

    def unfinished(self) -> str:
        """Why nothing can be said (a pixel family was not searched far enough), or nothing."""
        done = {r.family.name: r.progress for r in self.results}
        short = [k.name for k in (Patch, Additive) if done.get(k.name, 0.0) < MIN_PROGRESS]
        if not short:
            return ""
        return f"the time budget ended the search for {' and '.join(short)} triggers too early"

    def features(self) -> dict[str, float]:
        """A flat map of finite floats for calibration: ``inversion.patch.log_gap`` and so on."""
        out: dict[str, float] = {"inversion.log_classes": math.log(max(2, self.classes))}
        for result in self.results:
            out.update(_features(result))
        named = {r.family.name: r.gap.target for r in self.results if r.gap is not None}
        if {"patch", "additive"} <= named.keys():
            out["inversion.agree"] = float(named["patch"] == named["additive"])
        return out

    def table(self) -> list[dict[str, Any]]:
        """One row a class: size and, for dropped classes, how far the search went."""
        rows: dict[int, dict[str, Any]] = {}
        for result in self.results:
            name, search = result.family.name, result.search
            for row, target in enumerate(search.targets.tolist()):
                entry = rows.setdefault(target, {"class": target})
                size = float(search.sizes[row])
                if math.isfinite(size):
                    entry[f"{name} size"] = round(size, 3)
                    entry[f"{name} anomaly"] = round(anomaly(search.sizes, row), 2)
                entry[f"{name} steps"] = int(search.steps[row])
                found = result.validation
                if found is not None and found.target == target:
                    entry[f"{name} held-out ASR"] = round(found.asr, 4)
                    entry[f"{name} control ASR"] = round(found.control, 4)
        return [rows[key] for key in sorted(rows)]


def _honest(result: Result) -> tuple[bool, float]:
    """Pixel families first: a blur may reach one class only, which makes its gap infinite."""
    pixels = isinstance(result.family, Patch | Additive)
    return (pixels, result.gap.honest if result.gap is not None else 0.0)


def _features(result: Result) -> dict[str, float]:
    prefix = f"inversion.{result.family.name}."
    if result.gap is None:
        return {prefix + "reached": 0.0}
    found = result.validation
    out = {
        prefix + "reached": 1.0,
        prefix + "log_gap": math.log(result.gap.raw),
        prefix + "log_relative_gap": math.log(max(result.gap.relative, 1.0 / CAP)),
        prefix + "anomaly": result.gap.anomaly,
        prefix + "attraction": result.attraction,
        prefix + "log_second_gap": math.log(result.gap.second),
        prefix + "log_spread": math.log(result.gap.spread),
        prefix + "log_share": math.log(max(result.gap.share, 1e-9)),
    }
    out.update({prefix + name: value for name, value in result.character.items()})
    if found is not None:
        out[prefix + "asr"] = found.asr
        out[prefix + "baseline"] = found.baseline
        out[prefix + "control"] = found.control
        out[prefix + "control_max"] = found.control_max
        out[prefix + "follows"] = found.follows
    return out


@dataclass(slots=True)
class _Work:
    """What every family's search shares."""

    context: BehaviourContext
    images: torch.Tensor
    labels: torch.Tensor
    truth: torch.Tensor
    targets: NDArray[np.int64]
    settings: Settings
    held_out: Images
    linear: Logits | None
    follower: Reference | None
    attraction: NDArray[np.float64]


def run_campaign(context: BehaviourContext) -> Campaign:
    """Search all families, each with its share of the budget; the linear reference likewise."""
    work = _prepare(context)
    campaign = Campaign(classes=context.classifier.classes, margin_target=_margin(context))
    trial = work.images[torch.arange(len(work.targets) * work.settings.batch) % len(work.images)]

    def step() -> object:
        leaf = trial.clone().requires_grad_(True)
        return torch.autograd.grad(context.classifier.twin_logits(leaf).sum(), leaf)

    with measured_step(step) as seconds:
        work.settings = plan(context.classifier.classes, context.seed, seconds, context.budget.left)
        for kind, share in FAMILIES.items():
            budget = context.budget.share(share)
            if budget.spent:
                campaign.left_out.append(
                    f"Inversion did not search {kind.name} triggers (time budget)."
                )
            else:
                _search(work, kind(context.classifier.image_shape), budget, campaign)
    return campaign


def _prepare(context: BehaviourContext) -> _Work:
    assert context.samples is not None
    fitted, held_out = split(context.samples)
    classifier, device = context.classifier, context.device
    labels = torch.from_numpy(classifier.labels(fitted.pixels)).to(device)
    truth = torch.from_numpy(fitted.labels).to(device)
    targets = [
        t
        for t in range(classifier.classes)
        if bool((labels != t).any()) and bool((truth != t).any())
    ]
    return _Work(
        context,
        torch.from_numpy(fitted.pixels).to(device),
        labels,
        truth,
        np.array(targets, np.int64),
        settings_for(classifier.classes, context.seed),
        held_out,
        linear_reference(fitted, classifier.classes, context.seed, device),
        Reference(fitted, context.seed) if fitted.count_classes > 1 else None,
        attraction(classifier, held_out, context.seed),
    )


def _search(work: _Work, family: Family, budget: Budget, campaign: Campaign) -> None:
    """One family: the search, the yardstick, the gap, and the smallest trigger validated."""
    settings = replace(work.settings, steps=round(family.steps * work.settings.steps))
    search = invert(
        work.context.classifier.twin_logits,
        work.images,
        work.labels,
        family,
        work.targets,
        settings,
        lambda: budget.spent,
    )
    campaign.passes += search.passes
    if not search.complete:
        campaign.left_out.append(_stopped(search, settings))
    yardstick = None
    if work.linear is not None:
        plain = replace(settings, halvings=())
        yardstick = invert(work.linear, work.images, work.truth, family, work.targets, plain).sizes
    found = Result(
        family, search, yardstick, gap(search.sizes, yardstick, work.targets, family.unit)
    )
    found.progress = int(search.steps.max(initial=0)) / settings.steps
    if found.gap is not None:
        found.attraction = float(work.attraction[found.gap.target])
        refined = _refine(work, family, search, int(search.ranked()[0]))
        campaign.passes += refined.passes
        found.validation = validate(
            work.context.classifier,
            work.held_out,
            work.follower,
            family.name,
            family.trigger(refined.parameters, 0),
            int(refined.targets[0]),
            float(refined.sizes[0]),
            work.context.seed,
        )
        found.character = _characterise(work, family, refined, campaign)
    campaign.results.append(found)


def _characterise(
    work: _Work, family: Family, refined: Inversion, campaign: Campaign
) -> dict[str, float]:
    """What the smallest trigger is like; pixel families are searched once more, elsewhere begun."""
    context, target = work.context, int(refined.targets[0])
    trigger = family.trigger(refined.parameters, 0)
    out = character(context.classifier, work.held_out, trigger, target, context.seed)
    if not isinstance(family, Patch | Additive) or context.budget.spent:
        return out
    other = replace(work.settings, seed=work.settings.seed + 101, halvings=())
    again = invert(
        context.classifier.twin_logits,
        work.images,
        work.labels,
        family,
        refined.targets,
        other,
        lambda: context.budget.spent,
    )
    campaign.passes += again.passes
    few = work.held_out.pixels[work.held_out.labels != target]
    changes = [t.apply(few) - few for t in (trigger, family.trigger(again.parameters, 0))]
    out["repeat"] = likeness(changes[0], changes[1]) if np.isfinite(again.sizes[0]) else 0.0
    out["log_repeat"] = math.log(
        min(CAP, max(1 / CAP, float(again.sizes[0] / max(refined.sizes[0], 1e-9))))
    )
    return out


def split(samples: Images) -> tuple[Images, Images]:
    """Samples to search with and held-out ones to judge with; both hold every class that can."""
    mixed = samples.shuffled(0)
    cut = max(1, round(FIT_SHARE * len(mixed)))
    return mixed.take(slice(0, cut)), mixed.take(slice(cut, None))


def settings_for(classes: int, seed: int) -> Settings:
    """Every class to the end where there are few; with many, fewer images and early pruning."""
    settings = Settings(seed=seed, batch=8 if classes > MANY_CLASSES else 16)
    return settings if classes > PRUNE_ABOVE else replace(settings, halvings=())


def plan(classes: int, seed: int, step_seconds: float, seconds: float) -> Settings:
    """The usual settings, or thrifty ones (half the images, pruning) for slow networks.

    `step_seconds` is what one step over all classes takes; `seconds` is what all families have.
    """
    usual = settings_for(classes, seed)
    if usual.steps * step_seconds <= 0.4 * seconds or not np.isfinite(seconds):
        return usual
    return replace(usual, batch=8, halvings=Settings().halvings)


def _margin(context: BehaviourContext) -> int | None:
    """The class `data-free` found to stand out, if it ran and it does."""
    features = context.evidence.features
    if features.get("data_free.margin.p", 1.0) > MARGIN_P:
        return None
    return int(features["data_free.margin.target"])


def _stopped(search: Inversion, settings: Settings) -> str:
    done = int(search.steps.max(initial=0))
    return (
        f"The {search.family.name} search stopped after {done} of {settings.steps} steps (time "
        "budget): sizes are upper bounds."
    )


def _refine(work: _Work, family: Family, search: Inversion, row: int) -> Inversion:
    """The best row searched on from where it is, for a trigger that works nearly always.

    The smallest trigger with an ASR of 0.9 on small batches is a little too small elsewhere.
    Returns a one-row `Inversion`; the old trigger where the new goal was not reached.
    """
    start = tuple(p[row : row + 1] for p in search.parameters)
    goal = replace(
        work.settings, steps=_REFINE_STEPS, batch=_REFINE_BATCH, asr=_REFINE_ASR, halvings=()
    )
    refined = invert(
        work.context.classifier.twin_logits,
        work.images,
        work.labels,
        family,
        search.targets[row : row + 1],
        goal,
        lambda: work.context.budget.spent,
        start,
    )
    if not np.isfinite(refined.sizes[0]):
        refined.parameters = start
        refined.sizes = search.sizes[row : row + 1]
    return refined
