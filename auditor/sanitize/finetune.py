"""A short fine-tuning of the twin's learned parameters on a few hundred clean samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from auditor.sanitize.interface import RepairContext
from auditor.sanitize.measure import twin_accuracy, twin_asr

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from auditor.classifier import Classifier


GOOD_ASR = 0.03
"""Recovered triggers that succeed less often than this count as unlearned."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Adam's settings. Every `judge_every` steps the held-out accuracy decides what is kept."""

    learning_rate: float = 2e-3
    steps: int = 600
    batch: int = 64
    judge_every: int = 50
    noise: float = 0.03


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
    what it does well, also between the few samples (they are shifted and mixed). Half of every
    batch carries a recovered trigger, if there is one, and must be answered as without it
    (unlearning). The state with the lowest recovered ASR among those that keep held-out accuracy
    within `max_accuracy_drop` wins; when none does, the most accurate.
    """
    import torch
    from torch.nn import functional

    classifier = context.classifier
    assert classifier.twin is not None
    torch.manual_seed(context.seed)
    rng = np.random.default_rng(context.seed)
    base = {n: classifier.twin.parameters[n] for n in learned_parameters(classifier)}
    free = {n: v.clone().requires_grad_(True) for n, v in {**base, **start}.items()}
    optimiser = torch.optim.Adam(list(free.values()), lr=tuning.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, tuning.steps)
    judge = _Judge(context, twin_accuracy(classifier, context.held_out))
    for step in range(1, tuning.steps + 1):
        clean, seen = _batch(context, tuning, rng)
        with torch.no_grad():
            wanted = classifier.twin_logits(clean.to(classifier.device)).softmax(1)
        logits = classifier.twin_logits(seen.to(classifier.device), _apply(free, masks))
        loss = functional.cross_entropy(logits, wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        optimiser.step()
        schedule.step()
        if step % tuning.judge_every == 0 or step == tuning.steps or context.budget.spent:
            judge.see(_apply(free, masks))
            if context.budget.spent:
                break
    return judge.result()


def _apply(free: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: v * masks[n] if n in masks else v for n, v in free.items()}


def _batch(
    context: RepairContext, tuning: Tuning, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Augmented clean images, and the same with a recovered trigger on half of them."""
    import torch

    pixels = context.train.pixels
    clean = _augmented(pixels[rng.integers(0, len(pixels), tuning.batch)], tuning, rng)
    seen = clean
    if context.triggers:
        half = tuning.batch // 2
        trigger = context.triggers[int(rng.integers(len(context.triggers)))].trigger
        seen = np.concatenate([trigger.apply(clean[:half]), clean[half:]])
    return torch.from_numpy(clean), torch.from_numpy(seen)


def _augmented(
    pixels: NDArray[np.float32], tuning: Tuning, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Shifted by at most one pixel, a third mixed with another image, a little noise."""
    shift = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    moved = np.roll(pixels, shift, axis=(2, 3))
    third = len(moved) // 3
    share = rng.uniform(0.5, 1.0, (third, 1, 1, 1)).astype(np.float32)
    mixed = share * moved[:third] + (1 - share) * moved[third : 2 * third]
    both = np.concatenate([mixed, moved[third:]])
    noisy = both + rng.normal(0, tuning.noise, both.shape).astype(np.float32)
    clipped: NDArray[np.float32] = np.clip(noisy, 0, 1).astype(np.float32)
    return clipped


@dataclass(frozen=True, slots=True)
class Tuned:
    """Parameters by artifact name, with held-out `accuracy` and the highest recovered `asr`.

    `acceptable` says whether the accuracy stays within the allowed drop.
    """

    parameters: Mapping[str, Tensor]
    accuracy: float
    asr: float
    acceptable: bool

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Higher is better: acceptable first, then low ASR (below 3 % all are equal), accuracy."""
        asr = round(1 - max(self.asr, GOOD_ASR), 2) if self.acceptable else 0.0
        return (self.acceptable, asr, self.accuracy)


class _Judge:
    """Remembers the best state by what a user can know: held-out accuracy and recovered ASR."""

    def __init__(self, context: RepairContext, accuracy: float) -> None:
        self.context = context
        self.floor = accuracy - context.max_accuracy_drop
        self._best: Tuned | None = None

    def see(self, parameters: Mapping[str, Tensor]) -> None:
        """Judge one state."""
        context = self.context
        frozen = {n: v.detach().clone() for n, v in parameters.items()}
        accuracy = twin_accuracy(context.classifier, context.held_out, frozen)
        asr = max(
            (twin_asr(context.classifier, context.held_out, t, frozen) for t in context.triggers),
            default=0.0,
        )
        seen = Tuned(frozen, accuracy, asr, accuracy >= self.floor)
        if self._best is None or seen.rank > self._best.rank:
            self._best = seen

    def result(self) -> Tuned:
        """The best state seen; the last step is always judged."""
        assert self._best is not None
        return self._best
