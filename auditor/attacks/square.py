"""Square: random search with square patches, queries only (Andriushchenko et al. 2020), L-inf."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from auditor.attacks.interface import LINF, Attack, Problem
from auditor.attacks.losses import margin

SCHEDULE = (
    (10, 2), (50, 4), (200, 8), (500, 16), (1000, 32), (2000, 64), (4000, 128), (6000, 256),
    (8000, 512),
)  # fmt: skip
"""At (query of 10,000, divisor): the share of changed pixels is divided, as in the paper."""


@dataclass(frozen=True)
class Square(Attack):
    """At most `queries` predictions a sample; `share` is the first share of pixels changed."""

    name: ClassVar[str] = "square"
    norms: ClassVar[tuple[str, ...]] = (LINF,)
    epsilon: float
    norm: str = LINF
    queries: int = 1000
    share: float = 0.8

    def run(self, problem: Problem) -> Tensor:
        """Vertical stripes first, then squares of plus or minus epsilon that raise the margin."""
        centre, n = problem.images, len(problem.images)
        channels, height, width = centre.shape[1:]
        stripes = self._signs(problem, (n, channels, 1, width))
        best = (centre + self.epsilon * stripes).clamp(0, 1)
        with torch.no_grad():
            loss = self._loss(problem, best, slice(None))
            open_ = (loss <= 0).nonzero().flatten()
            for query in range(1, self.queries):
                if not len(open_) or problem.stop():
                    break
                side = self._side(query, height, width)
                here, base = best[open_], centre[open_]
                trial = self._paint(problem, here, base, side)
                value = self._loss(problem, trial, open_)
                better = value > loss[open_]
                chosen = open_[better]
                best[chosen], loss[chosen] = trial[better], value[better]
                open_ = open_[loss[open_] <= 0]
        return best

    def _loss(self, problem: Problem, images: Tensor, index: Tensor | slice) -> Tensor:
        scores = problem.predict(images)
        if problem.targets is None:
            return margin(scores, problem.labels[index])
        return -margin(scores, problem.targets[index])

    def _signs(self, problem: Problem, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randint(0, 2, shape, generator=problem.generator) * 2 - 1
        return drawn.to(problem.images)

    def _side(self, query: int, height: int, width: int) -> int:
        at = query / self.queries * 10000
        divisor = max((d for q, d in SCHEDULE if at > q), default=1)
        side = round(math.sqrt(self.share / divisor * height * width))
        return max(1, min(side, min(height, width) - 1 or 1))

    def _paint(self, problem: Problem, here: Tensor, base: Tensor, side: int) -> Tensor:
        """A square of `side` pixels at a random place of each image set to base +- epsilon."""
        n, channels, height, width = here.shape
        generator = problem.generator
        top = torch.randint(0, height - side + 1, (n, 1, 1, 1), generator=generator)
        left = torch.randint(0, width - side + 1, (n, 1, 1, 1), generator=generator)
        rows = torch.arange(height).reshape(1, 1, -1, 1)
        columns = torch.arange(width).reshape(1, 1, 1, -1)
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        signs = self._signs(problem, (n, channels, 1, 1))
        painted = (base + self.epsilon * signs).clamp(0, 1)
        return torch.where(inside.to(here.device), painted, here)
