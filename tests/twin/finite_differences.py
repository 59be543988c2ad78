"""Input gradients of a twin against central differences of the same twin in float64.

No one step suits every network: with a large step the image crosses kinks (ReLU, max pooling), with
a small one the difference drowns in rounding, because an untrained network's scores are large
beside their slope (inception_v3 without its initialisation: 2e-4 off with a step of 1e-3, 4e-3 with
1e-5, 1e-1 with 1e-7, while autograd agrees with the original module's to 3e-7). So each coordinate
is differenced with several steps, and the step counts whose error estimate is least: half the gap
between its one-sided differences (kinks, curvature) plus the rounding of the score over the step
(Press et al., Numerical Recipes, 3rd ed. 2007, section 5.7). The estimate never looks at the
gradient being tested. A coordinate where no step can be trusted to half the limit (it lies on a
kink) is replaced by another and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STEPS = (1e-5, 1e-6, 1e-4, 1e-7, 1e-3)
LIMIT = 1e-3
"""Largest error allowed, relative to the largest gradient among the coordinates looked at."""

_TOGETHER = 15
"""Coordinates differenced in one batch."""


@dataclass(frozen=True, slots=True)
class GradientError:
    """`worst` is relative to the largest gradient seen; `replaced` coordinates had no safe step.

    `coordinates` is how many were compared.
    """

    worst: float
    replaced: int
    coordinates: int


def gradient_error(
    twin: Any, image: Tensor, coordinates: int = 20, seed: int = 0, *, twice: bool = True
) -> GradientError:
    """Compare on random coordinates of `image` (1, ...), the score being a fixed mix of the logits.

    With `twice` the twin is first taken to float64; otherwise `twin` already is.
    """
    double = twin.to(torch.float64) if twice else twin
    image = image[:1].double()

    def score(batch: Tensor) -> Tensor:
        logits = double.run(batch).logits
        return logits @ torch.linspace(-1, 1, logits.shape[1], dtype=torch.float64)

    leaf = image.clone().requires_grad_()
    (exact,) = torch.autograd.grad(score(leaf).sum(), leaf)
    exact = exact.flatten()
    order = torch.randperm(exact.numel(), generator=torch.Generator().manual_seed(seed))
    scale = float(exact[order[: 4 * coordinates]].abs().max())
    assert scale > 0, "the gradient is zero everywhere looked at: nothing to compare"
    candidates = order[: coordinates + coordinates // 2]
    with torch.no_grad():
        slopes, doubts = _slopes(score, image, candidates, 0.05 * LIMIT * scale)
    sound = doubts <= 0.5 * LIMIT * scale
    judged = candidates[sound][:coordinates]
    assert len(judged) >= min(coordinates, len(candidates)) * 3 // 4, "too many kinks to judge"
    errors = (slopes[sound][:coordinates] - exact[judged]).abs()
    return GradientError(float(errors.max()) / scale, int((~sound).sum()), len(judged))


def _rounding(score: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """How far the score moves when the image moves by nothing that matters (a few ulps)."""
    generator = torch.Generator().manual_seed(0)
    shifts = torch.randn(5, *image.shape[1:], generator=generator).double() * 1e-15
    shifts[0] = 0
    scores = score(image + shifts)
    moved = float((scores - scores[0]).abs().max())
    return max(moved, 4 * torch.finfo(torch.float64).eps * float(scores[0].abs()))


def _slopes(
    score: Callable[[Tensor], Tensor], image: Tensor, at: Tensor, enough: float
) -> tuple[Tensor, Tensor]:
    """(derivative, estimate of its error) at the flat coordinates `at`.

    A coordinate is left alone once its estimate is below `enough`.
    """
    noise = _rounding(score, image)
    best = torch.zeros(len(at), dtype=torch.float64)
    doubt = torch.full((len(at),), float("inf"), dtype=torch.float64)
    for step in STEPS:
        left = torch.nonzero(doubt > enough).flatten()
        if not len(left):
            break
        for part in left.split(_TOGETHER):
            shift = torch.zeros(len(part), image.numel(), dtype=torch.float64)
            shift[torch.arange(len(part)), at[part]] = step
            shift = shift.reshape(len(part), *image.shape[1:])
            scores = score(torch.cat([image, image + shift, image - shift]))
            up, down = scores[1:].split(len(part))
            up, down = (up - scores[0]) / step, (scores[0] - down) / step
            estimate = (up - down).abs() / 2 + noise / step
            better = estimate < doubt[part]
            best[part[better]] = ((up + down) / 2)[better]
            doubt[part[better]] = estimate[better]
    return best, doubt
