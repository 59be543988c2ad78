"""PGD: projected gradient steps from a random start (Madry et al. 2018), with restarts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from auditor.attacks.interface import LINF, Attack, Problem, ascent, project, reached
from auditor.attacks.losses import cross_entropy, margin


@dataclass(frozen=True)
class PGD(Attack):
    """`steps` steps of `step_size` (0: 2.5 epsilon / steps, Madry et al.), `restarts` times.

    `loss` is ``cross-entropy`` or ``margin``. A sample fooled at any step leaves the batch with
    that image (`early`), which makes the attack faster and never weaker; off, the last step counts
    as in other libraries.
    """

    name: ClassVar[str] = "pgd"
    epsilon: float
    norm: str = LINF
    steps: int = 40
    step_size: float = 0.0
    restarts: int = 1
    random_start: bool = True
    loss: str = "cross-entropy"
    early: bool = True

    def run(self, problem: Problem) -> Tensor:
        """The restarts, each on the samples that no earlier one fooled."""
        result = problem.images.clone()
        open_ = torch.arange(len(result), device=result.device)
        for number in range(max(1, self.restarts)):
            if number and problem.stop():
                break
            start = self._start(problem)[open_]
            end = self._descend(problem, start, open_)
            result[open_] = end
            if number + 1 < self.restarts:
                with torch.no_grad():
                    scores = problem.predict(end)
                targets = None if problem.targets is None else problem.targets[open_]
                open_ = open_[~reached(scores, problem.labels[open_], targets)]
            if not len(open_):
                break
        return result

    def _start(self, problem: Problem) -> Tensor:
        if not self.random_start:
            return problem.images
        if self.norm == LINF:
            return (problem.images + problem.uniform(-self.epsilon, self.epsilon)).clamp(0, 1)
        direction = ascent(problem.normal(), self.norm)
        size = problem.images[0].numel()
        radius = torch.rand((len(direction), 1, 1, 1), generator=problem.generator)
        return (
            problem.images + self.epsilon * radius.to(direction) ** (1 / size) * direction
        ).clamp(0, 1)

    def _descend(self, problem: Problem, start: Tensor, index: Tensor) -> Tensor:
        """From `start`, the images of `problem` at `index`; returns where each ended."""
        step = self.step_size or 2.5 * self.epsilon / max(1, self.steps)
        result = start.clone()
        place = torch.arange(len(start), device=start.device)
        x, centre, labels = start, problem.images[index], problem.labels[index]
        targets = None if problem.targets is None else problem.targets[index]
        if self.norm == LINF:
            low, high = (centre - self.epsilon).clamp_(min=0), (centre + self.epsilon).clamp_(max=1)
        for _ in range(self.steps):
            if problem.stop():
                break
            grad, scores = self._gradient(problem, x, labels, targets)
            if self.early:
                keep = (~_safely(scores, labels, targets)).nonzero().flatten()
                if len(keep) < len(x):
                    result[place] = x
                    place, x, centre, grad = place[keep], x[keep], centre[keep], grad[keep]
                    labels = labels[keep]
                    targets = None if targets is None else targets[keep]
                    if self.norm == LINF:
                        low, high = low[keep], high[keep]
                    if not len(keep):
                        break
            if self.norm == LINF:
                # In place where nobody else holds the tensor: this loop is all the cost there is.
                x = grad.sign_().mul_(step).add_(x)
                x = torch.minimum(torch.maximum(x, low), high)
            else:
                x = project(x + step * ascent(grad, self.norm), centre, self.epsilon, self.norm)
        result[place] = x
        return result

    def _gradient(
        self, problem: Problem, images: Tensor, labels: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Ascent gradient and the scores it came from (one forward, one backward)."""
        with torch.enable_grad():
            x = images.detach().requires_grad_(True)
            scores = problem.predict(x)
            measure = margin if self.loss == "margin" else cross_entropy
            if targets is None:
                total = measure(scores, labels).sum()
            else:
                total = -measure(scores, targets).sum()
            if not total.requires_grad:
                return torch.zeros_like(images), scores
            (grad,) = torch.autograd.grad(total, x, allow_unused=True)
        return (torch.zeros_like(images) if grad is None else grad), scores.detach()


def _safely(scores: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Fooled by more than rounding: what leaves the batch should also fool the native runtime."""
    slack = 1e-4 * scores.detach().abs().amax(1).clamp_min(1e-6)
    if targets is None:
        return margin(scores.detach(), labels) > slack
    return -margin(scores.detach(), targets) > slack
