"""FAB-T: the smallest perturbation by steps to the decision boundary (Croce & Hein 2020, ICML).

Each step linearises the margin between the label and one target class, moves to that hyperplane
within the image box, and is pulled towards the clean image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from auditor.attacks.apgd import rank_wrong_classes
from auditor.attacks.interface import LINF, Attack, Problem, distance
from auditor.attacks.losses import target_margin

PULL = 0.1
OVERSHOOT = 1.05
BACKWARD = 0.9


@dataclass(frozen=True)
class TargetedFAB(Attack):
    """`steps` steps towards each of the `classes` likeliest wrong classes.

    Returns the smallest perturbation found; whether it lies within `epsilon` is measured by the
    base class (a larger one is scaled down there and then fails).
    """

    name: ClassVar[str] = "fab-targeted"
    epsilon: float
    norm: str = LINF
    steps: int = 100
    classes: int = 9

    def run(self, problem: Problem) -> Tensor:
        """The smallest adversarial perturbation over the targets; the clean image if none."""
        ranked = rank_wrong_classes(problem)
        best = problem.images.clone()
        size = torch.full((len(best),), float("inf"), device=best.device, dtype=best.dtype)
        for number in range(min(self.classes, ranked.shape[1])):
            # A sample fooled within epsilon needs no further target.
            open_ = (size > self.epsilon).nonzero().flatten()
            if not len(open_) or problem.stop():
                break
            self._towards(problem, ranked[:, number], open_, best, size)
        return best

    def _towards(
        self, problem: Problem, targets: Tensor, open_: Tensor, best: Tensor, size: Tensor
    ) -> None:
        """One run towards `targets`; updates `best` and `size` in place."""
        clean = problem.images[open_]
        labels, aims = problem.labels[open_], targets[open_]
        x = clean.clone()
        for _ in range(self.steps):
            if problem.stop():
                break
            normal, value = _hyperplane(problem, x, labels, aims)
            level = (normal * x).flatten(1).sum(1) - value
            near = nearest_on_hyperplane(x, normal, level, self.norm)
            home = nearest_on_hyperplane(clean, normal, level, self.norm)
            a, b = distance(near, x, self.norm), distance(home, clean, self.norm)
            pull = (a / (a + b).clamp_min(1e-12)).clamp(0, PULL).reshape(-1, 1, 1, 1)
            forward = (1 - pull) * (x + OVERSHOOT * (near - x))
            x = (forward + pull * (clean + OVERSHOOT * (home - clean))).clamp(0, 1)
            with torch.no_grad():
                wrong = problem.predict(x).argmax(1) != labels
            length = distance(x, clean, self.norm)
            closer = wrong & (length < size[open_])
            chosen = open_[closer]
            best[chosen], size[chosen] = x[closer], length[closer]
            back = clean + BACKWARD * (x - clean)
            x = torch.where(wrong.reshape(-1, 1, 1, 1), back, x)


def _hyperplane(
    problem: Problem, images: Tensor, labels: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient and value of the target's margin over the label."""
    with torch.enable_grad():
        x = images.detach().requires_grad_(True)
        value = target_margin(problem.predict(x), labels, targets)
        if not value.requires_grad:
            return torch.zeros_like(images), value
        (grad,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    return (torch.zeros_like(images) if grad is None else grad), value.detach()


def nearest_on_hyperplane(points: Tensor, normal: Tensor, level: Tensor, norm: str) -> Tensor:
    """The point of the box 0..1 with ``<normal, z> = level`` nearest to `points` (N, C, H, W).

    Along the needed direction every pixel has some room before it hits the box. For L-inf pixel i
    moves ``min(t, room_i)``, for L2 ``min(t |w_i|, room_i)``: the progress is piecewise linear and
    rising in t, so t is found by sorting the pixels by where they run out of room. Where the box
    does not reach the hyperplane every pixel goes to its limit.
    """
    flat, weight = points.flatten(1), normal.flatten(1)
    need = level - (weight * flat).sum(1)
    direction = weight.sign() * torch.where(need < 0, -1.0, 1.0)[:, None]
    room = torch.where(direction > 0, 1 - flat, flat)
    strength = weight.abs()
    pace = torch.ones_like(strength) if norm == LINF else strength
    limit = room / pace.clamp_min(1e-30)
    limit, order = limit.sort(1)
    slope = (strength * pace).gather(1, order)
    # Between limits k-1 and k all pixels from k on still move: progress = done_k + t * moving_k.
    moving = slope.flip(1).cumsum(1).flip(1)
    spent = (slope * limit).cumsum(1)
    done = torch.cat([torch.zeros_like(spent[:, :1]), spent[:, :-1]], 1)
    reach = done + moving * limit
    index = (reach < need.abs()[:, None]).sum(1, keepdim=True).clamp_max(limit.shape[1] - 1)
    rest = need.abs() - done.gather(1, index).squeeze(1)
    time = rest / moving.gather(1, index).squeeze(1).clamp_min(1e-30)
    step = torch.minimum(pace * time[:, None], room)
    moved = flat + direction * torch.where(strength > 0, step, torch.zeros_like(step))
    return moved.reshape(points.shape).clamp(0, 1)
