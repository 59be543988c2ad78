"""One audit's inversion: every family in turn within the budget, checked on held-out samples."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from auditor import plugins
from auditor.checks.behaviour.controls import Reference
from auditor.checks.interface import BehaviourContext, Budget
from auditor.inversion.attraction import attraction
from auditor.inversion.character import character, likeness
from auditor.inversion.families import Additive, Family, Patch
from auditor.inversion.features import CAP, gap
from auditor.inversion.planning import THRIFTY, affordable, pass_seconds, plan, settings_for
from auditor.inversion.reference import linear_reference
from auditor.inversion.result import Campaign, Result
from auditor.inversion.search import CHUNK_VALUES, Inversion, Settings, invert
from auditor.inversion.shortlist import LEAST, shortlist
from auditor.inversion.threads import measured_step
from auditor.inversion.validate import validate
from auditor.samples.interface import Images

if TYPE_CHECKING:
    from auditor.inversion.search import Logits

MARGIN_P = 1e-3
"""From here on MM-BD's p-value counts as a second opinion."""
FIT_SHARE = 0.6
_LEAST_BATCH = 8
_TRIAL_CLASSES, _TRIAL_SHARE = 64, 0.03
"""Classes a step is timed for at most, and the share of the time that may take."""

_NO_YARDSTICK = (
    "How easy the classes are by nature was not measured to the end for {} triggers (time budget): "
    "no class is accused of being easier."
)
_REFINE_STEPS, _REFINE_BATCH, _REFINE_ASR = 40, 32, 0.98


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


def families() -> list[type[Family]]:
    """All registered trigger families in the order of their search."""
    return [plugin.value for plugin in plugins.load("audit.families").plugins]


def run_campaign(context: BehaviourContext) -> Campaign:
    """Search all families, each with its share of the budget; the linear reference likewise."""
    work = _prepare(context)
    campaign = Campaign(
        classes=context.classifier.classes,
        margin_target=_margin(context),
        attraction=work.attraction,
    )
    most = max(_LEAST_BATCH, CHUNK_VALUES // (4 * int(np.prod(context.classifier.image_shape))))
    images = min(most, len(work.targets) * work.settings.batch)
    trial = work.images[torch.arange(images) % len(work.images)]

    def step() -> object:
        leaf = trial.clone().requires_grad_(True)
        return torch.autograd.grad(context.classifier.twin_logits(leaf).sum(), leaf)

    with measured_step(step) as seconds:
        one = pass_seconds(seconds / images, torch.get_num_threads())
        usual = work.settings
        work.settings = plan(len(work.targets), context.seed, one, context.budget.left)
        if work.settings.batch < usual.batch:
            campaign.left_out.append(THRIFTY)
        _shorten(work, one, campaign)
        for kind in families():
            budget = context.budget.share(kind.share)
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
    settings = replace(
        work.settings,
        steps=round(family.steps * work.settings.steps),
        batch=max(_LEAST_BATCH, round(family.images * work.settings.batch)),
    )
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
    yardstick, judged = None, True
    if work.linear is not None:
        plain = replace(settings, halvings=())
        beside = invert(
            work.linear,
            work.images,
            work.truth,
            family,
            work.targets,
            plain,
            lambda: work.context.budget.spent,
        )
        yardstick = beside.sizes
        judged = beside.complete
        if not judged:
            campaign.left_out.append(_NO_YARDSTICK.format(family.name))
    found = Result(
        family, search, yardstick, gap(search.sizes, yardstick, work.targets, family.unit)
    )
    found.progress = int(search.steps.max(initial=0)) / settings.steps if judged else 0.0
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
        found.character = _characterise(work, search, refined, campaign)
    campaign.results.append(found)


def _characterise(
    work: _Work, search: Inversion, refined: Inversion, campaign: Campaign
) -> dict[str, float]:
    """What the smallest trigger is like; patch and additive are searched again from another start.

    The second search has the goal of the first, not of the refinement, so that sizes compare.
    """
    context, family, target = work.context, search.family, int(refined.targets[0])
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
    ratio = float(again.sizes[0] / max(float(search.sizes.min()), 1e-9))
    out["log_repeat"] = math.log(min(CAP, max(1 / CAP, ratio)))
    return out


def split(samples: Images) -> tuple[Images, Images]:
    """Samples to search with and held-out ones to judge with; both hold every class that can."""
    mixed = samples.shuffled(0)
    cut = max(1, round(FIT_SHARE * len(mixed)))
    return mixed.take(slice(0, cut)), mixed.take(slice(cut, None))


def _shorten(work: _Work, one_pass: float, campaign: Campaign) -> None:
    """Keep the most suspicious classes where time does not reach for all."""
    every, left = len(work.targets), work.context.budget.left
    if every <= LEAST or not np.isfinite(left):
        return
    most = affordable(work.settings, every, _class_step(work, one_pass), left)
    if most < every:
        listed = shortlist(work.context, work.images, work.targets, most, one_pass)
        work.targets, campaign.searched = listed.targets, len(listed.targets)
        campaign.left_out.append(listed.sentence(every))


def _class_step(work: _Work, one_pass: float) -> float:
    """Seconds one step takes for one class, in the model and in the linear reference.

    Tried for as many classes as a small part of the time allows: more than passes cost time.
    """
    most = _TRIAL_SHARE * work.context.budget.left / (one_pass * work.settings.batch)
    few = work.targets[: max(1, min(_TRIAL_CLASSES, int(most)))]
    tried = replace(work.settings, steps=1, halvings=())
    family = Patch(work.context.classifier.image_shape)
    started = time.monotonic()
    invert(work.context.classifier.twin_logits, work.images, work.labels, family, few, tried)
    if work.linear is not None:
        invert(work.linear, work.images, work.truth, family, few, tried)
    return (time.monotonic() - started) / len(few)


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
        work.settings,
        steps=_REFINE_STEPS,
        batch=_REFINE_BATCH,
        asr=_REFINE_ASR,
        halvings=(),
        give_up=1.0,
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
