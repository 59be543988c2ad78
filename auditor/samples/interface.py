"""Labelled images as every check sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Images:
    """`pixels` float32 (N, C, H, W) in 0..1, C = 1 or 3 (RGB); `labels` int64 (N,).

    `classes` are display names by label, or empty. `source` says where they came from, for people
    (never an absolute path). `stored_range` is set when the stored values were not 0..1 or 0..255
    images but already normalised floats: the (lowest, highest) stored value that 0 and 1 stand for.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    source: str
    classes: tuple[str, ...] = field(default=())
    stored_range: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def count_classes(self) -> int:
        """Number of distinct labels present."""
        return len(np.unique(self.labels))

    def take(self, index: Sequence[int] | NDArray[np.int64] | slice) -> Images:
        """The samples at `index`."""
        chosen = index if isinstance(index, slice) else np.asarray(index, dtype=np.int64)
        return replace(self, pixels=self.pixels[chosen], labels=self.labels[chosen])

    def shuffled(self, seed: int, limit: int | None = None) -> Images:
        """A random subset of at most `limit`, balanced over the labels as far as possible."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self))
        rank = np.empty(len(self), dtype=np.int64)
        for label in np.unique(self.labels):
            mine = order[self.labels[order] == label]
            rank[mine] = np.arange(len(mine))
        chosen = order[np.argsort(rank[order], kind="stable")]
        return self.take(chosen[:limit])
