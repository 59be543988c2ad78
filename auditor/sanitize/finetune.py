"""A short fine-tuning of the twin's learned parameters on a few hundred clean samples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from auditor.sanitize.batches import Batches
from auditor.sanitize.interface import RepairContext
from auditor.sanitize.judge import GOOD_ASR, Judge, Tuned

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.classifier import Classifier


_SLACK = 0.1
_PUSH = 1.5
"""Factor by which the weight of triggered images changes after a judgement."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Adam's settings and what a batch holds.

    Every `judge_every` steps held-out samples decide what is kept. `batch` clean images always;
    half of them carry recovered triggers when `recovered` is set and there are any; `random` more
    carry random triggers (`auditor.sanitize.stamps`); in `rounds`
    universal triggers are searched (`auditor.sanitize.adversaries`, `search` steps each), and
    `universal` images more carry them; with `suspected` only
    towards the targets of the recovered triggers. `decay` is AdamW's: weights
    that clean images do not need fade. What is judged is the moving `average` of the weights (its
    memory, 0 for none; Izmailov et al., 2018): it loses less accuracy. `noise` is the standard
    deviation of what is added to clean images; it must be far below a trigger's amplitude.
    Training ends early once so many judgements as `enough` were good (0: never): accuracy kept and
    no recovered trigger beyond `goal` (ASR above its baseline). Up to `push` times as much as clean
    images weigh those with a trigger, while accuracy can be spared.
    """

    learning_rate: float = 2e-3
    steps: int = 600
    batch: int = 64
    judge_every: int = 50
    noise: float = 0.03
    recovered: bool = True
    random: int = 0
    rounds: int = 0
    search: int = 50
    universal: int = 32
    decay: float = 0.0
    suspected: bool = False
    average: float = 0.0
    enough: int = 0
    goal: float = GOOD_ASR
    push: float = 1.0


def learned_parameters(classifier: Classifier) -> list[str]:
    """Weights and biases of conv, dense and norm layers: what fine-tuning may change."""
    names: list[str] = []
    for layer in classifier.layers:
        names += [n for n in (layer.weight, layer.bias) if n is not None and n not in names]
    return names


def fine_tune(
    context: RepairContext,
    start: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    tuning: Tuning,
) -> Tuned:
    """Tuned parameters, `masks` (1 keep, 0 cut) held throughout.

    The original model on clean images is the teacher (distillation, Hinton et al. 2015): it keeps
    what it does well, also between the few samples (they are shifted and mixed). Whatever a batch
    carries, it must be answered as without it (unlearning). The state with the lowest recovered
    ASR among those that keep held-out accuracy within `max_accuracy_drop` wins; when none does,
    the most accurate.
    """
    import torch
    from torch.nn import functional

    classifier = context.classifier
    assert classifier.twin is not None
    torch.manual_seed(context.seed)
    base = {n: classifier.twin.parameters[n] for n in learned_parameters(classifier)}
    free = {n: v.clone().requires_grad_(True) for n, v in {**base, **start}.items()}
    optimiser = torch.optim.AdamW(
        list(free.values()), lr=tuning.learning_rate, weight_decay=tuning.decay
    )
    averaged = {name: value.detach().clone() for name, value in free.items()}
    judge = Judge(context)
    batches = Batches(context, tuning)
    good, push = 0, 1.0
    for step in range(1, tuning.steps + 1):
        clean, origin, seen = batches.draw(_apply(free, masks))
        with torch.no_grad():
            wanted = classifier.twin_logits(clean).softmax(1)[origin]
        logits = classifier.twin_logits(seen, _apply(free, masks))
        batches.learn(wanted, logits)
        losses = functional.cross_entropy(logits, wanted, reduction="none")
        loss = (losses * batches.weights(push)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        optimiser.param_groups[0]["lr"] = tuning.learning_rate * _annealed(step, tuning, context)
        optimiser.step()
        _follow(averaged, free, min(tuning.average, step / (step + 10)))
        if step % tuning.judge_every == 0 or step == tuning.steps or context.budget.spent:
            state = judge.see(_apply(averaged, masks))
            push = pushed(push, state, judge, tuning.push)
            good += state.acceptable and state.excess <= tuning.goal
            if context.budget.spent or good == tuning.enough > 0:
                break
    end = _apply(averaged, masks)
    judge.soften(_apply(base, masks))
    return replace(judge.result(), end=end)


def pushed(push: float, state: Tuned, judge: Judge, most: float) -> float:
    """How much more triggered images weigh than clean ones: more while accuracy can be spared."""
    if not state.acceptable:
        return max(1.0, push / _PUSH)
    spare = state.accuracy >= judge.floor + 0.25 * (judge.accuracy - judge.floor)
    return min(most, push * _PUSH) if spare and not state.clear else push


def seconds_a_step(context: RepairContext, tuning: Tuning) -> float:
    """How long one step of `fine_tune` takes here, searches and judging apart."""
    import torch

    classifier = context.classifier
    assert classifier.twin is not None
    pixels = context.train.pixels
    size = tuning.batch + tuning.random + tuning.universal
    images = torch.from_numpy(pixels[np.arange(size) % len(pixels)]).to(classifier.device)
    free = {
        n: classifier.twin.parameters[n].clone().requires_grad_(True)
        for n in learned_parameters(classifier)
    }
    started = 0.0
    for _ in range(2):  # the first one warms up
        started = time.monotonic()
        classifier.twin_logits(images)
        loss = classifier.twin_logits(images, free).sum()
        torch.autograd.grad(loss, list(free.values()), allow_unused=True)
    return time.monotonic() - started


def _follow(averaged: Mapping[str, Tensor], free: Mapping[str, Tensor], memory: float) -> None:
    """Move each average towards its value, in place."""
    for name, value in free.items():
        averaged[name].lerp_(value.detach(), 1 - memory)


def _annealed(step: int, tuning: Tuning, context: RepairContext) -> float:
    """Cosine from 1 to 0 over the steps, or over the time where that runs out first.

    A run cut short at full rate would end far from where it was going.
    """
    done = (step - 1) / tuning.steps
    late = 1 - context.budget.left / context.budget.seconds if context.budget.seconds > 0 else 1.0
    # The clock counts only where time is short, so that one seed gives one result where it is not.
    progress = late if late > done + _SLACK else done
    return 0.5 + 0.5 * float(np.cos(np.pi * min(1.0, progress)))


def _apply(free: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: v * masks[n] if n in masks else v for n, v in free.items()}
