"""APGD: PGD that chooses its own step size (Croce & Hein 2020), with CE and targeted DLR loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from auditor.attacks.interface import LINF, Attack, Problem, ascent, project
from auditor.attacks.losses import cross_entropy, dlr, margin, targeted_dlr

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From scores (n, K) and the positions (n,) in the batch of their samples to values (n,)."""

SHORTEST = 10
"""Steps a further restart is worth starting for."""

MOMENTUM = 0.75
RISING = 0.75
"""Share of steps that must raise the loss between two checkpoints, else the step is halved."""


@dataclass
class _State:
    """Everything APGD remembers about the samples still in the batch; every field is (n, ...)."""

    place: Tensor
    centre: Tensor
    x: Tensor
    before: Tensor
    grad: Tensor
    loss: Tensor
    step: Tensor
    best: Tensor
    best_grad: Tensor
    best_loss: Tensor
    checked_loss: Tensor
    rises: Tensor
    halved: Tensor

    def keep(self, index: Tensor) -> None:
        """Drop all samples but those at `index`."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name)[index])


@dataclass
class _Answer:
    """What a run found so far, for all samples (N, ...).

    `grazed` were wrong by no more than rounding: they stay in the batch, and that image is their
    answer unless a clearly wrong one is found. `gradients` counts the images differentiated.
    """

    images: Tensor
    grazed: Tensor
    gradients: int = 0
    runs: int = 0

    @classmethod
    def of(cls, problem: Problem) -> _Answer:
        """The clean images."""
        images = problem.images.clone()
        return cls(images, torch.zeros(len(images), dtype=torch.bool, device=images.device))


@dataclass(frozen=True)
class APGD(Attack):
    """`steps` iterations, `restarts` times, maximising ``cross-entropy``, ``dlr`` or ``margin``.

    Gradients that samples saved by leaving early go into further, shorter restarts of those that
    still stand, on the margin loss, which finds what another loss misses: never more than
    ``restarts * (steps + 1)`` gradients a sample on average.
    """

    name: ClassVar[str] = "apgd"
    epsilon: float
    norm: str = LINF
    steps: int = 100
    restarts: int = 1
    loss: str = "cross-entropy"

    def run(self, problem: Problem) -> Tensor:
        """Restarts, each on the samples none before fooled, while gradients last."""
        first = {"cross-entropy": cross_entropy, "dlr": dlr, "margin": margin}[self.loss]
        aim = problem.labels if problem.targets is None else problem.targets
        sign = 1.0 if problem.targets is None else -1.0

        def loss(scores: Tensor, place: Tensor) -> Tensor:
            measure = first if answer.runs < max(1, self.restarts) else margin
            return sign * measure(scores, aim[place])

        answer = _Answer.of(problem)
        open_ = torch.arange(len(answer.images), device=answer.images.device)
        budget = max(1, self.restarts) * (self.steps + 1) * len(open_)
        while len(open_) and not problem.stop():
            steps = min(self.steps, (budget - answer.gradients) // len(open_) - 1)
            if steps < min(self.steps, SHORTEST):
                break
            open_ = ascend(replace(self, steps=steps), problem, loss, open_, answer)
            answer.runs += 1
        return answer.images


@dataclass(frozen=True)
class TargetedAPGD(Attack):
    """APGD on the targeted DLR loss towards each of the `classes` likeliest wrong classes in turn.

    Success is any wrong class (AutoAttack's APGD-T).
    """

    name: ClassVar[str] = "apgd-dlr-targeted"
    epsilon: float
    norm: str = LINF
    steps: int = 100
    classes: int = 9

    def run(self, problem: Problem) -> Tensor:
        """One APGD run for each rank of wrong class, on the samples still standing."""
        ranked = rank_wrong_classes(problem)
        answer = _Answer.of(problem)
        open_ = torch.arange(len(answer.images), device=answer.images.device)
        for number in range(min(self.classes, ranked.shape[1])):
            targets = ranked[:, number]

            def loss(scores: Tensor, place: Tensor, targets: Tensor = targets) -> Tensor:
                return targeted_dlr(scores, problem.labels[place], targets[place])

            if len(open_) and not problem.stop():
                open_ = ascend(self, problem, loss, open_, answer)
        return answer.images


def rank_wrong_classes(problem: Problem) -> Tensor:
    """Int64 (N, K-1): the wrong classes of each sample, likeliest first."""
    with torch.no_grad():
        scores = problem.predict(problem.images)
    scores = scores.scatter(1, problem.labels[:, None], float("-inf"))
    return scores.argsort(1, descending=True)[:, :-1]


def ascend(
    attack: APGD | TargetedAPGD, problem: Problem, loss: Loss, open_: Tensor, answer: _Answer
) -> Tensor:
    """One APGD run on the samples at `open_`; writes into `answer`, returns those not fooled."""
    state = _begin(attack, problem, loss, open_, answer)
    interval, left = max(int(0.22 * attack.steps), 1), 0
    shortest, shrink = max(int(0.06 * attack.steps), 1), max(int(0.03 * attack.steps), 1)
    for number in range(attack.steps):
        if not len(state.place) or problem.stop():
            break
        _step(attack, problem, loss, state, 1.0 if number == 0 else MOMENTUM, answer)
        left += 1
        if left == interval:
            _checkpoint(state, interval)
            interval, left = max(interval - shrink, shortest), 0
    untouched = ~answer.grazed[state.place]
    answer.images[state.place[untouched]] = state.best[untouched]
    return state.place


def _begin(
    attack: APGD | TargetedAPGD, problem: Problem, loss: Loss, open_: Tensor, answer: _Answer
) -> _State:
    """Random start on the border of the ball, first gradient."""
    noise = problem.uniform(-1, 1) if attack.norm == LINF else problem.normal()
    noise, centre = noise[open_], problem.images[open_]
    if attack.norm == LINF:
        noise = noise / noise.flatten(1).abs().amax(1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
    else:
        noise = ascent(noise, attack.norm)
    x = project(centre + attack.epsilon * noise, centre, attack.epsilon, attack.norm)
    grad, value, wrong, sure = _evaluate(problem, loss, x, open_)
    size = torch.full((len(x), 1, 1, 1), 2 * attack.epsilon, device=x.device, dtype=x.dtype)
    state = _State(
        place=open_,
        centre=centre,
        x=x,
        before=x,
        grad=grad,
        loss=value,
        step=size,
        best=x.clone(),
        best_grad=grad.clone(),
        best_loss=value.clone(),
        checked_loss=value.clone(),
        rises=torch.zeros_like(value),
        halved=torch.ones_like(wrong),
    )
    _release(state, wrong, sure, answer)
    return state


def _step(
    attack: APGD | TargetedAPGD,
    problem: Problem,
    loss: Loss,
    state: _State,
    momentum: float,
    answer: _Answer,
) -> None:
    """One step with momentum, and what it says about best point and rising loss."""
    x, centre, ball = state.x, state.centre, (attack.epsilon, attack.norm)
    forward = project(x + state.step * ascent(state.grad, attack.norm), centre, *ball)
    moved = x + momentum * (forward - x) + (1 - momentum) * (x - state.before)
    state.before, state.x = x, project(moved, centre, *ball)
    state.grad, value, wrong, sure = _evaluate(problem, loss, state.x, state.place)
    state.rises = state.rises + (value > state.loss).to(value)
    state.loss = value
    better = value > state.best_loss
    where = better.reshape(-1, 1, 1, 1)
    state.best = torch.where(where, state.x, state.best)
    state.best_grad = torch.where(where, state.grad, state.best_grad)
    state.best_loss = torch.where(better, value, state.best_loss)
    _release(state, wrong, sure, answer)


def _checkpoint(state: _State, interval: int) -> None:
    """Halve the step and go back to the best point where progress has stalled."""
    stalled = state.rises <= RISING * interval
    stalled |= ~state.halved & (state.checked_loss >= state.best_loss)
    where = stalled.reshape(-1, 1, 1, 1)
    state.step = torch.where(where, state.step / 2, state.step)
    state.x = torch.where(where, state.best, state.x)
    state.grad = torch.where(where, state.best_grad, state.grad)
    state.halved, state.checked_loss = stalled, state.best_loss.clone()
    state.rises = torch.zeros_like(state.rises)


def _release(state: _State, wrong: Tensor, sure: Tensor, answer: _Answer) -> None:
    """Samples fooled by more than rounding leave with the image that did it."""
    answer.gradients += len(wrong)
    if bool(wrong.any()):
        answer.images[state.place[wrong]] = state.x[wrong]
        answer.grazed[state.place[wrong]] = True
        state.keep((~sure).nonzero().flatten())


def _evaluate(
    problem: Problem, loss: Loss, images: Tensor, place: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradient of the loss, the loss, which samples are fooled, and which by more than rounding."""
    with torch.enable_grad():
        x = images.detach().requires_grad_(True)
        scores = problem.predict(x)
        value = loss(scores, place)
        grad: Tensor | None = None
        if value.requires_grad:
            (grad,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    scores, value = scores.detach(), value.detach()
    slack = 1e-4 * scores.abs().amax(1).clamp_min(1e-6)
    if problem.targets is None:
        gap = margin(scores, problem.labels[place])
    else:
        gap = -margin(scores, problem.targets[place])
    return (torch.zeros_like(images) if grad is None else grad), value, gap > 0, gap > slack
