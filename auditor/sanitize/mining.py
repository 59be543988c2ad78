"""What the network still follows is shown to it more often.

Hard examples are mined (Shrivastava et al., CVPR 2016) among kinds of trigger instead of images:
whoever follows a blur it has never seen was probably taught a blur.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AT_FIRST, _MEMORY, _FLOOR = 0.2, 0.9, 0.02


class Mining:
    """Draws from a fixed number of kinds: half by their shares, half by how they are followed."""

    def __init__(self, shares: NDArray[np.float64], rng: np.random.Generator) -> None:
        """`shares` (kinds,) sum to 1: how often each is drawn before anything is known."""
        self.shares, self.rng = shares, rng
        self.followed = np.full(len(shares), _AT_FIRST)
        self._drawn: list[tuple[int, slice]] = []

    @property
    def chances(self) -> NDArray[np.float64]:
        """(kinds,) probabilities of the next draw."""
        mined = self.shares * (_FLOOR + self.followed) ** 2
        chances: NDArray[np.float64] = 0.5 * self.shares + 0.5 * mined / mined.sum()
        chances /= chances.sum()
        return chances

    def deal(self, count: int, group: int) -> list[tuple[int, slice]]:
        """A kind for each `group` of `count` images; what `learn` is told next is about these."""
        chances = self.chances
        self._drawn = [
            (int(self.rng.choice(len(chances), p=chances)), slice(at, min(at + group, count)))
            for at in range(0, count, group)
        ]
        return self._drawn

    def learn(self, followed: NDArray[np.bool_]) -> None:
        """Told which of the images dealt last (N,) followed their trigger."""
        for kind, part in self._drawn:
            rate = float(followed[part].mean())
            self.followed[kind] += (1 - _MEMORY) * (rate - self.followed[kind])
