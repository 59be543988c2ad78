"""Random triggers of every common kind: what a network must not listen to, whoever planted it.

A backdoor is a shortcut from something small and image-independent to a class. Stamping clean
images with thousands of random patches, blends, waves, blurs, warps, filters and random
convolutions (RandConv, Xu et al., ICLR 2021), and asking for the answer without the stamp, takes
the use out of such shortcuts without knowing which one was planted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from auditor.sanitize.mining import Mining
from auditor.triggers.blends import AdditiveNoise, BlendedNoise, Sinusoid
from auditor.triggers.interface import Pixels, Trigger
from auditor.triggers.patches import Checkerboard, RandomPatch, SparsePixels, Square
from auditor.triggers.transforms import Blur, ColourFilter, Warp

_Draw = Callable[[np.random.Generator, int], Trigger]
_MANY = 1_000_000
_CONVOLVED = 0.12


class Stamps:
    """Random triggers on images, of every kind and of those the network follows more often."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.kinds = tuple(dict.fromkeys(_DRAWS))
        named = [(1 - _CONVOLVED) * _DRAWS.count(kind) / len(_DRAWS) for kind in self.kinds]
        self.mining = Mining(np.array([*named, _CONVOLVED]), rng)

    def stamp(self, images: Pixels, group: int = 8) -> Pixels:
        """A copy of `images` (N, C, H, W) in 0..1, every `group` with a new random trigger."""
        dealt = self.mining.deal(len(images), group)
        parts = [self._one(images[part], kind) for kind, part in dealt]
        return np.concatenate(parts) if parts else images.copy()

    def _one(self, images: Pixels, kind: int) -> Pixels:
        if kind == len(self.kinds):
            return _random_convolution(images, self.rng)
        return self.kinds[kind](self.rng, min(images.shape[2:])).apply(images)


def random_trigger(rng: np.random.Generator, side: int) -> Trigger:
    """One trigger of a random family and strength for images whose shorter side is `side`."""
    draw = _DRAWS[int(rng.integers(len(_DRAWS)))]
    return draw(rng, side)


def _random_convolution(images: Pixels, rng: np.random.Generator) -> Pixels:
    """``x + a tanh(conv(relu(conv(x))))`` with random 3x3 kernels: depends on the image."""
    import torch
    from torch.nn import functional

    channels, hidden = images.shape[1], 8
    inner = torch.from_numpy(rng.normal(0, 0.5, (hidden, channels, 3, 3)).astype(np.float32))
    outer = torch.from_numpy(rng.normal(0, 0.5, (channels, hidden, 3, 3)).astype(np.float32))
    x = torch.from_numpy(np.ascontiguousarray(images))
    with torch.no_grad():
        middle = functional.conv2d(x, inner, padding=1).relu()
        change = functional.conv2d(middle, outer, padding=1).tanh()
        out = (x + float(rng.uniform(0.1, 0.35)) * change).clamp(0, 1)
    result: Pixels = out.numpy()
    return result


def _size(rng: np.random.Generator, side: int) -> int:
    return int(rng.integers(1, max(3, round(side * 0.3)) + 1))


def _place(rng: np.random.Generator, side: int, size: int) -> tuple[int, int]:
    """Anywhere, but half of the time in a corner, where most published patches sit."""
    most = max(0, side - size)
    if rng.random() < 0.5:
        return int(rng.integers(0, most + 1)), int(rng.integers(0, most + 1))
    return tuple(int(rng.choice([0, min(1, most), max(0, most - 1), most])) for _ in range(2))  # type: ignore[return-value]


def _square(rng: np.random.Generator, side: int) -> Trigger:
    size = _size(rng, side)
    value = float(rng.choice([1.0, 1.0, 0.0, round(float(rng.random()), 2)]))
    return Square(size=size, at=_place(rng, side, size), value=value)


def _checkerboard(rng: np.random.Generator, side: int) -> Trigger:
    size = max(2, _size(rng, side))
    place = _place(rng, side, size)
    return Checkerboard(size=size, at=place, cell=int(rng.integers(1, 3)))


def _random_patch(rng: np.random.Generator, side: int) -> Trigger:
    size = max(2, _size(rng, side))
    return RandomPatch(size=size, at=_place(rng, side, size), seed=int(rng.integers(_MANY)))


def _pixels(rng: np.random.Generator, side: int) -> Trigger:
    count = int(rng.integers(1, max(4, side // 2)))
    value = float(rng.choice([1.0, 0.0, 0.7]))
    return SparsePixels(count=count, value=value, seed=int(rng.integers(_MANY)))


def _blend(rng: np.random.Generator, side: int) -> Trigger:
    return BlendedNoise(alpha=float(rng.uniform(0.1, 0.4)), seed=int(rng.integers(_MANY)))


def _noise(rng: np.random.Generator, side: int) -> Trigger:
    kind = str(rng.choice(["sign", "uniform"]))
    amplitude = float(rng.uniform(0.05, 0.25))
    return AdditiveNoise(amplitude=amplitude, seed=int(rng.integers(_MANY)), kind=kind)


def _wave(rng: np.random.Generator, side: int) -> Trigger:
    return Sinusoid(
        amplitude=float(rng.uniform(0.08, 0.4)),
        frequency=float(rng.uniform(1.5, side / 2.5)),
        axis=str(rng.choice(["columns", "rows", "diagonal"])),
    )


def _blur(rng: np.random.Generator, side: int) -> Trigger:
    return Blur(sigma=float(rng.uniform(0.5, 1.8)) * max(1.0, side / 28))


def _warp(rng: np.random.Generator, side: int) -> Trigger:
    strength = float(rng.uniform(0.5, 3.0)) * max(0.4, side / 28)
    return Warp(k=int(rng.integers(3, 7)), strength=strength, seed=int(rng.integers(_MANY)))


def _filter(rng: np.random.Generator, side: int) -> Trigger:
    return ColourFilter(
        contrast=float(rng.uniform(0.4, 1.5)),
        brightness=float(rng.uniform(-0.3, 0.3)),
        gamma=float(rng.uniform(0.6, 1.7)),
    )


_DRAWS: tuple[_Draw, ...] = (
    _square, _square, _checkerboard, _random_patch, _random_patch, _pixels,
    _blend, _blend, _noise, _noise, _wave, _wave, _blur, _warp, _warp, _filter,
)  # fmt: skip
