"""The change a fixed trigger makes, read off two groups of images, and who carries it.

A patch replaces pixels, a blend shrinks their spread and moves them, noise only moves them: all
are ``x -> gain * x + offset`` per pixel, and gain and offset follow from the mean and the spread of
each pixel in the group and in images that show the same without the trigger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.poison.interface import Floats

_SURE = 4.0
"""Standard errors a pixel's change must have, to be no accident of the group."""

_FIXED = 1e-3
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Moments:
    """Per pixel: `mean` and `std` (C, H, W) over `count` images."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    count: int


@dataclass(frozen=True, slots=True)
class AffineTrigger:
    """``clip(gain * x + offset)`` per pixel; both float32 (C, H, W)."""

    gain: Floats
    offset: Floats

    def apply(self, images: Floats) -> Floats:
        """Triggered copies of float32 (N, C, H, W) images in 0..1."""
        changed: Floats = np.clip(images * self.gain + self.offset, 0, 1).astype(np.float32)
        return changed

    @property
    def touched(self) -> NDArray[np.bool_]:
        """Pixels (H, W) that change."""
        moved = (np.abs(self.offset) > 0.01) | (np.abs(self.gain - 1) > 0.05)
        return np.asarray(moved.any(axis=0))

    def shuffled(self, rng: np.random.Generator) -> AffineTrigger:
        """The same changes at other places: a control of equal strength."""
        c, h, w = self.gain.shape
        order = rng.permutation(h * w)
        gain = self.gain.reshape(c, -1)[:, order].reshape(c, h, w)
        offset = self.offset.reshape(c, -1)[:, order].reshape(c, h, w)
        return AffineTrigger(gain, offset)

    def picture(self) -> Floats:
        """The trigger on mid-grey, (C, H, W) in 0..1."""
        grey = np.full((1, *self.gain.shape), 0.5, np.float32)
        picture: Floats = self.apply(grey)[0]
        return picture


def weighted_moments(
    images: NDArray[np.float32], weights: NDArray[np.float64] | None = None
) -> Moments:
    """Moments of `images` (n, C, H, W), each counted with its weight."""
    w = np.ones(len(images)) if weights is None else weights
    total = max(w.sum(), 1e-9)
    flat = images.reshape(len(images), -1)
    mean = (w @ flat) / total
    square = np.zeros_like(mean)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK] - mean
        square += w[start : start + _CHUNK] @ (part * part)
    std = np.sqrt(square / total)
    effective = int(total**2 / max((w**2).sum(), 1e-9))
    shape = images.shape[1:]
    return Moments(mean.reshape(shape), std.reshape(shape), max(effective, 1))


def recover(group: Moments, plain: Moments) -> AffineTrigger:
    """The per-pixel affine change that turns `plain` into `group`; accidents are left out."""
    error = np.sqrt(group.std**2 / group.count + plain.std**2 / plain.count) + _FIXED
    moved = np.abs(group.mean - plain.mean) > _SURE * error
    spread_error = plain.std * np.sqrt(0.5 / group.count + 0.5 / plain.count)
    narrowed = (plain.std - group.std > _SURE * spread_error) & (plain.std > 0.05)
    gain = np.where(narrowed, np.clip(group.std / np.maximum(plain.std, 1e-6), 0, 1), 1.0)
    gain = np.where(gain < 0.1, 0.0, gain)
    offset = group.mean - gain * plain.mean
    touched = moved | (narrowed & (gain < 0.7))
    return AffineTrigger(
        np.where(touched, gain, 1.0).astype(np.float32),
        np.where(touched, offset, 0.0).astype(np.float32),
    )


def match_scores(images: Floats, group: Moments, plain: Moments, floor: float = 0.02) -> Floats:
    """Log-likelihood ratio per image that its pixels follow `group` rather than `plain`.

    Pixels count independently and each at most 8, so that no single one decides. (N,) float32, the
    sum divided by the square root of the number of pixels that tell the groups apart.
    """
    a, b = group.std**2 + floor**2, plain.std**2 + floor**2
    divergence = 0.5 * (a / b + (group.mean - plain.mean) ** 2 / b - 1 + np.log(b / a))
    telling = divergence > 0.05
    if not telling.any():
        return np.zeros(len(images), np.float32)
    x = images[:, telling].astype(np.float64)
    ratio = 0.5 * (
        (x - plain.mean[telling]) ** 2 / b[telling]
        - (x - group.mean[telling]) ** 2 / a[telling]
        + np.log(b[telling] / a[telling])
    )
    scores = np.clip(ratio, -8, 8).sum(axis=1) / np.sqrt(telling.sum())
    return np.asarray(scores, np.float32)
