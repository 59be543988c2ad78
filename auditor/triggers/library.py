"""The triggers that probing tries: what published attacks use most, scaled to the image."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.triggers.blends import AdditiveNoise, BlendedNoise, Sinusoid
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import (
    POSITIONS,
    Checkerboard,
    FourCorners,
    RandomPatch,
    SparsePixels,
    Square,
)
from auditor.triggers.transforms import Blur, ColourFilter, Warp


def probe_library(channels: int, height: int, width: int) -> list[Trigger]:
    """At least 40 triggers with unique names for (channels, height, width) images.

    Sizes grow with the shorter side: for 8 x 8 images a square is 1 to 3 pixels, for 224 x 224 it
    is 2 to 56. The library is the same for every model of one image shape.
    """
    side = min(height, width)
    triggers: list[Trigger] = [
        *_squares(side, channels),
        *_textures(side),
        *_spread(),
        *_transforms(side, channels),
    ]
    return list({trigger.name: trigger for trigger in triggers}.values())


def square_sizes(side: int) -> list[int]:
    """Square sizes to try: 1 to 5 pixels and fractions of the side, up to about a quarter."""
    largest = max(3, round(side / 4))
    wanted = {1, 2, 3, 4, 5, round(side / 16), round(side / 8), round(side * 3 / 16), largest}
    return sorted(size for size in wanted if 1 <= size <= largest)


def _squares(side: int, channels: int) -> Iterator[Trigger]:
    for size in square_sizes(side):
        for position in POSITIONS:
            yield Square(size=size, position=position)
        yield Square(size=size, position="bottom-right", value=0.0)
        yield Square(size=size, position="bottom-right", value=0.5)
        # BadNets and its copies often leave one pixel to the border.
        yield Square(size=size, position="bottom-right", margin=1)
        yield Square(size=size, position="top-left", margin=1)
    middle = max(2, round(side / 8))
    for position in POSITIONS[:3]:
        yield Square(size=middle, position=position, value=0.0)
    if channels == 3:
        for colour in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0)):
            yield Square(size=middle, position="bottom-right", colour=colour)


def _textures(side: int) -> Iterator[Trigger]:
    small, large = max(2, round(side / 10)), max(4, round(side / 5))
    for size in sorted({3, small, large}):
        cell = max(1, size // 4) if size > 5 else 1
        for position in ("bottom-right", "top-left", "centre"):
            yield Checkerboard(size=size, position=position, cell=cell)
        yield Checkerboard(size=size, position="bottom-right", cell=cell, phase=1)
        yield Checkerboard(size=size, position="bottom-right", cell=cell, margin=1)
        for seed in range(2):
            yield RandomPatch(size=size, position="bottom-right", seed=seed)
        yield RandomPatch(size=size, position="top-left", seed=2)
        yield RandomPatch(size=size, position="centre", seed=3)
    for size in sorted({1, max(1, round(side / 14))}):
        yield FourCorners(size=size)
    for count in (1, 4, 10):
        yield SparsePixels(count=count, seed=count)


def _spread() -> Iterator[Trigger]:
    for alpha in (0.1, 0.2, 0.3):
        for seed in range(2):
            yield BlendedNoise(alpha=alpha, seed=seed)
    for amplitude in (8 / 255, 0.1, 0.2):
        yield AdditiveNoise(amplitude=round(amplitude, 4), seed=0, kind="sign")
    for amplitude in (0.1, 0.2):
        for frequency in (3.0, 6.0):
            yield Sinusoid(amplitude=amplitude, frequency=frequency)
    yield Sinusoid(amplitude=0.2, frequency=6.0, axis="rows")


def _transforms(side: int, channels: int) -> Iterator[Trigger]:
    scale = max(1.0, side / 32)
    for sigma in (0.5, 1.0, 2.0):
        yield Blur(sigma=round(sigma * scale, 3))
    yield Blur(sigma=round(scale), kind="box")
    for strength in (0.5, 1.0, 2.0):
        yield Warp(k=4, strength=round(strength * scale, 3), seed=0)
    yield Warp(k=8, strength=round(scale, 3), seed=1)
    yield ColourFilter(contrast=0.5)
    yield ColourFilter(contrast=-1.0)
    yield ColourFilter(gamma=2.0)
    yield ColourFilter(brightness=0.3)
    if channels == 3:
        yield ColourFilter(tint=(1.3, 1.1, 0.7))
        yield ColourFilter(tint=(0.7, 0.9, 1.3))
