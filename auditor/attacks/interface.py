"""The template of an evasion attack.

An attack works on `predict`: a torch function from images float32 (N, C, H, W) in 0..1 to class
scores (N, K), the larger the likelier. It knows nothing of artifacts. `Attack.__call__` checks the
input, drops samples that are wrong already, lets the subclass `run`, projects what comes back to
the epsilon ball and the image box, and measures success itself: an attack cannot claim more than
`predict` admits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Predict: TypeAlias = Callable[[Tensor], Tensor]
Stop: TypeAlias = Callable[[], bool]

LINF, L2 = "linf", "l2"


def never() -> bool:
    """The stop function of an attack without a deadline."""
    return False


class BadInput(ValueError):
    """Images or labels an attack cannot work on; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class AttackResult:
    """`images` (N, C, H, W) within the ball; `fooled` bool (N,): wrong on `images`.

    Where the attack failed `images` holds the clean image. `wrong_before` marks samples that were
    misclassified without any attack; they count as fooled, their image is unchanged. `complete` is
    False when `stop` cut the attack short.
    """

    images: Tensor
    fooled: Tensor
    wrong_before: Tensor
    complete: bool = True

    @property
    def robust_accuracy(self) -> float:
        """Share of all samples still classified correctly."""
        return 1.0 - float(self.fooled.double().mean())


@dataclass(frozen=True, slots=True)
class Problem:
    """What `run` gets: one batch, its labels, the classifier, randomness and the stop signal.

    `place` int64 (n,) are the positions of these images among the `size` of the batch they were
    taken from: noise is drawn for the whole batch, so that a sample's start depends on nobody else
    and equals what a plain loop draws after ``torch.manual_seed(seed)``.
    """

    predict: Predict
    images: Tensor
    labels: Tensor
    targets: Tensor | None
    generator: torch.Generator
    stop: Stop
    place: Tensor
    size: int

    def uniform(self, low: float, high: float) -> Tensor:
        """Uniform noise shaped like the images. Drawn on the CPU: same seed, same start."""
        shape = (self.size, *self.images.shape[1:])
        noise = torch.rand(shape, generator=self.generator, dtype=torch.float32)[self.place.cpu()]
        return (noise * (high - low) + low).to(self.images)

    def normal(self) -> Tensor:
        """Standard normal noise shaped like the images."""
        shape = (self.size, *self.images.shape[1:])
        noise = torch.randn(shape, generator=self.generator, dtype=torch.float32)
        return noise[self.place.cpu()].to(self.images)

    def fooled(self, scores: Tensor) -> Tensor:
        """Which rows of `scores` (N, K) count as success: wrong, or the target if there is one."""
        return reached(scores, self.labels, self.targets)


def reached(scores: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Bool (N,): prediction is not the label, or is the target in a targeted attack."""
    predicted = scores.argmax(1)
    return predicted.ne(labels) if targets is None else predicted.eq(targets)


def project(images: Tensor, centre: Tensor, epsilon: float, norm: str) -> Tensor:
    """The nearest point to `images` within `epsilon` of `centre` and within 0..1.

    For L2 the radial projection comes first and the box second; both only shrink the distance.
    """
    if norm == LINF:
        low, high = (centre - epsilon).clamp_(min=0), (centre + epsilon).clamp_(max=1)
        return torch.maximum(torch.minimum(images, high), low)
    change = images - centre
    length = change.flatten(1).norm(dim=1).clamp_min(1e-12)
    factor: Tensor = (epsilon / length).clamp_max(1.0).reshape(-1, 1, 1, 1)
    return (centre + change * factor).clamp(0, 1)


def distance(images: Tensor, centre: Tensor, norm: str) -> Tensor:
    """Per-sample distance (N,)."""
    change = (images - centre).flatten(1)
    return change.abs().amax(1) if norm == LINF else change.norm(dim=1)


class Attack(ABC):
    """Subclass as a frozen dataclass with at least `epsilon` and `norm`; write `run`."""

    name: ClassVar[str]
    norms: ClassVar[tuple[str, ...]] = (LINF, L2)
    epsilon: float
    norm: str

    @abstractmethod
    def run(self, problem: Problem) -> Tensor:
        """Candidates (N, C, H, W) for `problem.images`; need not be inside the ball."""

    def __call__(
        self,
        predict: Predict,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        seed: int = 0,
        batch: int = 256,
        stop: Stop = never,
    ) -> AttackResult:
        """Attack `images` float32 (N, C, H, W) in 0..1 with `labels` int64 (N,), in batches.

        `targets` int64 (N,) makes the attack targeted. Raises `BadInput`. `stop` is asked between
        steps; samples not reached by then count as not fooled and `complete` is False.
        """
        self._verify(images, labels, targets)
        generator = torch.Generator().manual_seed(seed)
        adversarial = images.clone()
        fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        wrong = torch.zeros_like(fooled)
        complete = True
        for start in range(0, len(images), batch):
            if start and stop():
                complete = False
                break
            part = slice(start, start + batch)
            x, y = images[part], labels[part]
            t = None if targets is None else targets[part]
            with torch.no_grad():
                scores = predict(x)
            wrong[part] = scores.argmax(1) != y
            done = reached(scores, y, t)
            index = (~done).nonzero().flatten()
            if len(index):
                found = self._attack(
                    Problem(predict, x[index], y[index], None if t is None else t[index],
                            generator, stop, index, len(x))
                )  # fmt: skip
                adversarial[start + index[found[1]]] = found[0][found[1]]
                done[index] = found[1]
            fooled[part] = done
        return AttackResult(adversarial, fooled, wrong, complete and not stop())

    def _attack(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """`run`, then project, clip and measure."""
        candidate = self.run(problem).detach()
        if candidate.shape != problem.images.shape:
            raise RuntimeError(f"{self.name} returned {tuple(candidate.shape)} images")
        candidate = torch.where(candidate.isfinite(), candidate, problem.images)
        candidate = project(candidate, problem.images, self.epsilon, self.norm)
        with torch.no_grad():
            return candidate, problem.fooled(problem.predict(candidate))

    def _verify(self, images: Tensor, labels: Tensor, targets: Tensor | None) -> None:
        if self.norm not in self.norms:
            raise BadInput(f"{self.name} works in {' and '.join(self.norms)}, not in {self.norm!r}")
        if not self.epsilon >= 0:
            raise BadInput(f"epsilon must not be negative, not {self.epsilon}")
        if images.ndim != 4 or not images.is_floating_point():
            raise BadInput("images must be floating point (N, C, H, W)")
        if len(images) and not (float(images.min()) >= 0 and float(images.max()) <= 1):
            raise BadInput("images must be in 0..1")
        for words, values in (("labels", labels), ("targets", targets)):
            if values is not None and values.shape != (len(images),):
                raise BadInput(f"{words} must be one whole number an image")


def gradient(loss: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Gradient of the sum of `loss(images)` by the images; zeros where nothing depends on them."""
    with torch.enable_grad():
        x = images.detach().requires_grad_(True)
        total = loss(x).sum()
        if not total.requires_grad:
            return torch.zeros_like(images)
        (grad,) = torch.autograd.grad(total, x, allow_unused=True)
    return torch.zeros_like(images) if grad is None else grad


def ascent(grad: Tensor, norm: str) -> Tensor:
    """Steepest ascent direction of unit length: the sign for L-inf, the unit vector for L2."""
    if norm == LINF:
        return grad.sign()
    length = grad.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
    return grad.div(length)


def from_numpy(predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Predict:
    """A `Predict` without gradients from a numpy one, such as the native runtime's."""

    def scores(images: Tensor) -> Tensor:
        pixels = images.detach().to("cpu", torch.float32).numpy()
        return torch.from_numpy(np.array(predict(pixels), dtype=np.float32)).to(images.device)

    return scores
