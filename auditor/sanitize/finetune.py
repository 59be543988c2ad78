"""A short fine-tuning of the twin's learned parameters on a few hundred clean samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from auditor.sanitize.interface import RepairContext
from auditor.sanitize.measure import twin_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from auditor.classifier import Classifier


@dataclass(frozen=True, slots=True)
class Tuning:
    """Adam's settings. Every `judge_every` steps the held-out accuracy decides what is kept."""

    learning_rate: float = 5e-4
    steps: int = 300
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
) -> dict[str, Tensor]:
    """Tuned parameters by name, `masks` (1 keep, 0 cut) held throughout.

    Half of every batch carries a recovered trigger (if there is one) with its true label. The
    state with the lowest recovered ASR among those that keep held-out accuracy within
    `max_accuracy_drop` wins; when none does, the most accurate.
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
    judge = _Judge(context, twin_accuracy(classifier, context.held_out))
    for step in range(1, tuning.steps + 1):
        pixels, labels = _batch(context, tuning, rng)
        logits = classifier.twin_logits(pixels.to(classifier.device), _apply(free, masks))
        loss = functional.cross_entropy(logits, labels.to(classifier.device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % tuning.judge_every == 0 or context.budget.spent:
            judge.see(_apply(free, masks))
            if context.budget.spent:
                break
    return judge.best


def _apply(free: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: v * masks[n] if n in masks else v for n, v in free.items()}


def _batch(
    context: RepairContext, tuning: Tuning, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    import torch

    index = rng.integers(0, len(context.train), tuning.batch)
    pixels: NDArray[np.float32] = context.train.pixels[index]
    if context.triggers:
        half = tuning.batch // 2
        trigger = context.triggers[int(rng.integers(len(context.triggers)))].trigger
        pixels = np.concatenate([trigger.apply(pixels[:half]), pixels[half:]])
    noisy = pixels + rng.normal(0, tuning.noise, pixels.shape).astype(np.float32)
    return (
        torch.from_numpy(np.clip(noisy, 0, 1, dtype=np.float32)),
        torch.from_numpy(context.train.labels[index]),
    )


class _Judge:
    """Remembers the best state by what a user can know: held-out accuracy and recovered ASR."""

    def __init__(self, context: RepairContext, accuracy: float) -> None:
        self.context = context
        self.floor = accuracy - context.max_accuracy_drop
        self.best: dict[str, Tensor] = {}
        self._key: tuple[float, float] | None = None

    def see(self, parameters: Mapping[str, Tensor]) -> None:
        """Judge one state."""
        from auditor.sanitize.measure import twin_asr

        context = self.context
        frozen = {n: v.detach().clone() for n, v in parameters.items()}
        accuracy = twin_accuracy(context.classifier, context.held_out, frozen)
        asr = max(
            (twin_asr(context.classifier, context.held_out, t, frozen) for t in context.triggers),
            default=0.0,
        )
        # Below the floor only accuracy counts; above it the recovered triggers' success does.
        key = (1.0 - asr, accuracy) if accuracy >= self.floor else (-1.0, accuracy)
        if self._key is None or key > self._key:
            self._key, self.best = key, frozen
