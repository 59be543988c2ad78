"""Universal triggers towards every class, inverted anew from the network as it unlearns them.

The rounds of I-BAU (Zeng et al., ICLR 2022) with the trigger search of the audit in the inner
place: for every class a patch and an additive pattern, as small as suffices. In the first rounds a
backdoor is among them, because it is the shortest way to its target; once it is unlearned the
search finds what is left of it. What is natural to the classes is found too, and does no harm: the
teacher's answer without it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from auditor.sanitize.mining import Mining

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from auditor.inversion.families import Family, Parameters

Logits = Callable[["Tensor"], "Tensor"]
_MOST_CLASSES = 12
"""Classes searched in one round; with more, each round draws others."""
_STARTS = 3
"""Searches towards the suspected classes together, at least one each."""


class Adversaries:
    """The triggers found so far; the latest round is drawn as often as all before."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        seed: int,
        steps: int,
        suspected: Sequence[int] = (),
    ) -> None:
        """`suspected` classes alone are searched, each from several starts, if there are any."""
        from auditor.inversion.families import Additive, Patch
        from auditor.inversion.transforms import Smoothing, Warping

        self.families: tuple[Family, ...] = (Patch(shape), Additive(shape))
        if suspected:
            self.families += (Smoothing(shape), Warping(shape))
        self.classes, self.seed, self.steps = classes, seed, steps
        self.suspected = tuple(suspected)
        self.rounds: list[list[tuple[Family, Parameters]]] = []
        self.rng = np.random.default_rng([seed, 3])
        count = len(self.families)
        self.mining = Mining(np.full(count, 1 / count), self.rng)

    def search(
        self, logits: Logits, images: Tensor, labels: Tensor, spent: Callable[[], bool]
    ) -> None:
        """One round: a trigger of each family towards every class, from a fresh start."""
        from auditor.inversion.search import Settings, invert

        targets = self._targets()
        found: list[tuple[Family, Parameters]] = []
        for family in self.families:
            settings = Settings(
                steps=self.steps, batch=8, halvings=(), seed=self.seed + 17 * len(self.rounds)
            )
            result = invert(logits, images, labels, family, targets, settings, spent)
            found.append((family, tuple(p.detach() for p in result.parameters)))
        self.rounds.append(found)

    def _targets(self) -> NDArray[np.int64]:
        if self.suspected:
            few = self.rng.permutation(self.suspected)[:_MOST_CLASSES]
            return np.repeat(np.sort(few), max(1, _STARTS // len(few))).astype(np.int64)
        present = np.arange(self.classes)
        return np.sort(self.rng.permutation(present)[:_MOST_CLASSES]).astype(np.int64)

    def stamp(self, images: Tensor, group: int) -> Tensor:
        """`images` (N, C, H, W), every `group` of them with another trigger."""
        import torch

        dealt = self.mining.deal(len(images), group)
        return torch.cat([self._one(images[part], kind) for kind, part in dealt])

    def _one(self, images: Tensor, kind: int) -> Tensor:
        import torch

        latest = self.rng.random() < 0.5
        found = self.rounds[-1 if latest else int(self.rng.integers(len(self.rounds)))]
        family, parameters = found[kind]
        row = int(self.rng.integers(len(parameters[0])))
        with torch.no_grad():
            return family.apply(tuple(p[row : row + 1] for p in parameters), images[None])[0]
