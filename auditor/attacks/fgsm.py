"""FGSM: one step along the sign of the gradient (Goodfellow, Shlens, Szegedy 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from auditor.attacks.interface import LINF, Attack, Problem, ascent, gradient
from auditor.attacks.losses import cross_entropy


@dataclass(frozen=True)
class FGSM(Attack):
    """One full step of length `epsilon`; from the clean image, or a random start in the ball.

    With targets the step goes down the cross-entropy towards them.
    """

    name: ClassVar[str] = "fgsm"
    epsilon: float
    norm: str = LINF
    random_start: bool = False

    def run(self, problem: Problem) -> Tensor:
        """One gradient, one step."""
        start = problem.images
        if self.random_start:
            start = (start + problem.uniform(-self.epsilon, self.epsilon)).clamp(0, 1)
        aim = problem.labels if problem.targets is None else problem.targets
        sign = 1.0 if problem.targets is None else -1.0
        grad = gradient(lambda x: cross_entropy(problem.predict(x), aim), start)
        return start + sign * self.epsilon * ascent(grad, self.norm)
