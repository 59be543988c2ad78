"""Data sets for training zoo models: the product's own sample readers, as a train and a test half.

`load_dataset` takes what ``--data`` of a scan takes (digits, mnist, fashion-mnist, cifar10, or a
path). Pixels are quantised to 8 bits at once, so that the network, ``train.npz`` and a scan all see
the same images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from auditor.errors import UnreadableSamples
from auditor.manifest import DataHint, Transform
from auditor.samples.interface import Images
from auditor.samples.readers import NAMED, read_samples
from zoo.poisoning import quantise

TEST_SHARE = 5
"""A source without its own split gives one sample in five of each class to the test half."""


@dataclass(frozen=True)
class Dataset:
    """`name` is what a manifest records: a plain word, never a path."""

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]

    @property
    def side(self) -> int:
        """Image height and width."""
        return int(self.train.pixels.shape[2])

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.train.pixels.shape[1])

    @property
    def count_classes(self) -> int:
        """Number of outputs a network needs."""
        return len(self.classes)

    def limited(self, train: int | None, test: int | None = None, *, seed: int = 0) -> Dataset:
        """A smaller data set, balanced over the labels, drawn with `seed`."""
        return replace(
            self,
            train=self.train.shuffled(seed, train) if train else self.train,
            test=self.test.shuffled(seed, test) if test else self.test,
        )

    def hint(self, transform: Transform | None = None) -> DataHint:
        """What the manifest says about the data."""
        return DataHint(name=self.name, split="test", transform=transform or Transform())


def load_dataset(
    source: str, *, root: Path | None = None, train: int | None = None, test: int | None = None
) -> Dataset:
    """Read `source`, at most `train` and `test` samples of its halves (balanced, seeded).

    Raises `UnreadableSamples` when it cannot be read, is not square, or has fewer than two classes.
    """
    first = read_samples(source, root=root, split="train", limit=train)
    second = read_samples(source, root=root, split="test", limit=test)
    if source not in NAMED and first.source == second.source:
        # No split of its own: both reads gave the same images, so cut them apart ourselves.
        first, second = _cut(read_samples(source, root=root, split="train"))
        first, second = first.shuffled(0, train), second.shuffled(0, test)
    if first.pixels.shape[2] != first.pixels.shape[3]:
        raise UnreadableSamples(f"{first.source} is not square: the zoo trains on square images")
    count = int(max(first.labels.max(), second.labels.max())) + 1
    if count < 2:
        raise UnreadableSamples(f"{first.source} holds one class only: a classifier needs two")
    classes = first.classes or tuple(str(label) for label in range(count))
    halves = [
        replace(half, pixels=quantise(half.pixels), classes=classes) for half in (first, second)
    ]
    return Dataset(plain_name(source), halves[0], halves[1], classes)


def plain_name(source: str) -> str:
    """The word that stands for a path in manifests and folder names."""
    if source in NAMED:
        return source
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source).resolve().name).lstrip("-._")
    return word[:100] or "images"


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, rounded as people write them."""
    mean = images.pixels.mean(axis=(0, 2, 3))
    std = images.pixels.std(axis=(0, 2, 3))
    return tuple(round(float(m), 4) for m in mean), tuple(round(float(s), 4) for s in std)


def _cut(images: Images) -> tuple[Images, Images]:
    """Every fifth sample of each class, in a seeded order, becomes the test half."""
    mixed = images.shuffled(0)
    rank = np.zeros(len(mixed), dtype=np.int64)
    for label in np.unique(mixed.labels):
        mine = np.flatnonzero(mixed.labels == label)
        rank[mine] = np.arange(len(mine))
    testing = rank % TEST_SHARE == 0
    return mixed.take(np.flatnonzero(~testing)), mixed.take(np.flatnonzero(testing))
