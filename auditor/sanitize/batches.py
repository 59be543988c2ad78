"""What a step of fine-tuning sees: augmented clean images, and the same with what they carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from auditor.sanitize.adversaries import Adversaries
from auditor.sanitize.interface import RepairContext
from auditor.sanitize.mining import Mining
from auditor.sanitize.stamps import Stamps

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from auditor.sanitize.finetune import Tuning

_GROUP = 8
"""Images of a batch that share a trigger."""


class Batches:
    """Augmented clean images, and the same images with what they carry."""

    def __init__(self, context: RepairContext, tuning: Tuning) -> None:
        self.context, self.tuning = context, tuning
        self.rng = np.random.default_rng(context.seed)
        self.stamps = Stamps(self.rng)
        known = len(context.triggers) if tuning.recovered else 0
        self.known = Mining(np.full(known, 1 / max(1, known)), self.rng)
        self.half = tuning.batch // 2 if known else 0
        self.targets = sorted({t.target for t in context.triggers}) if tuning.suspected else []
        self.steps = 0
        self.bank: Adversaries | None = None
        if tuning.rounds:
            classifier = context.classifier
            self.bank = Adversaries(
                classifier.image_shape,
                classifier.classes,
                context.seed,
                tuning.search,
                self.targets,
            )

    def draw(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(clean, origin, seen): images (B, C, H, W) without anything, for each of the N of the
        batch which of them it was made of, and the batch itself, all on the classifier's device."""
        import torch

        tuning = self.tuning
        device = self.context.classifier.device
        self._search(parameters)
        self.steps += 1
        pixels = self.context.train.pixels
        chosen = pixels[self.rng.integers(0, len(pixels), tuning.batch)]
        clean = _augmented(chosen, tuning, self.rng)
        origins = [np.arange(tuning.batch)]
        carried = [self._recovered(clean)]
        if tuning.random:
            origins.append(np.arange(1, tuning.random + 1) % tuning.batch)
            carried.append(self.stamps.stamp(clean[origins[-1]]))
        parts = [torch.from_numpy(np.concatenate(carried)).to(device)]
        before = torch.from_numpy(clean).to(device)
        if self.bank is not None:
            origins.append(np.arange(2, tuning.universal + 2) % tuning.batch)
            parts.append(self.bank.stamp(before[torch.from_numpy(origins[-1])], _GROUP))
        return before, torch.from_numpy(np.concatenate(origins)), torch.cat(parts)

    def weights(self, push: float) -> Tensor:
        """(N,) of mean 1: images with a trigger weigh `push` times as much as those without."""
        import torch

        tuning = self.tuning
        count = tuning.batch + tuning.random + (tuning.universal if self.bank is not None else 0)
        weights = torch.full((count,), push, device=self.context.classifier.device)
        weights[self.half : tuning.batch] = 1.0
        return weights / weights.mean()

    def learn(self, wanted: Tensor, logits: Tensor) -> None:
        """Told what the teacher (N, K) and the network (N, K) say of the last batch.

        An image follows its trigger when its answer is another and, where classes are suspected,
        one of them.
        """
        before, after = (scores.argmax(1).cpu().numpy() for scores in (wanted, logits.detach()))
        followed = before != after
        if self.targets:
            followed &= np.isin(after, self.targets)
        batch, last = self.tuning.batch, self.tuning.batch + self.tuning.random
        self.known.learn(followed[:batch])
        self.stamps.mining.learn(followed[batch:last])
        if self.bank is not None:
            self.bank.mining.learn(followed[last:])

    def _search(self, parameters: Mapping[str, Tensor]) -> None:
        """A new round of universal triggers when one is due."""
        import torch

        if self.bank is None or self.steps % max(1, self.tuning.steps // self.tuning.rounds):
            return
        if len(self.bank.rounds) >= self.tuning.rounds:
            return
        classifier, train = self.context.classifier, self.context.train
        frozen = {n: v.detach() for n, v in parameters.items()}
        self.bank.search(
            lambda images: classifier.twin_logits(images, frozen),
            torch.from_numpy(train.pixels).to(classifier.device),
            torch.from_numpy(train.labels).to(classifier.device),
            lambda: self.context.budget.spent,
        )

    def _recovered(self, clean: NDArray[np.float32]) -> NDArray[np.float32]:
        """`clean` with recovered triggers on its first half, if there are any."""
        triggers = self.context.triggers
        dealt = self.known.deal(self.half, _GROUP)
        parts = [triggers[which].trigger.apply(clean[part]) for which, part in dealt]
        return np.concatenate([*parts, clean[self.half :]])


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
