"""Triggers that transform the image itself: blur, warp, colour and contrast filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditor.triggers.interface import Pixels
from auditor.triggers.record import RecordTrigger, clip, require


@dataclass(frozen=True, eq=False)
class Blur(RecordTrigger):
    """Blur of width `sigma` pixels: ``gaussian``, or ``box`` of side ``2 sigma + 1`` (rounded)."""

    family: ClassVar[str] = "blur"
    sigma: float = 1.0
    kind: str = "gaussian"

    def __post_init__(self) -> None:
        require(0 < self.sigma <= 100, f"sigma must be in (0, 100], not {self.sigma}")
        require(self.kind in ("gaussian", "box"), "kind must be gaussian or box")

    @property
    def name(self) -> str:
        """``blur-gaussian-1``."""
        return f"blur-{self.kind}-{self.sigma:g}"

    def apply(self, images: Pixels) -> Pixels:
        """Images blurred over rows and columns, edges mirrored."""
        from scipy import ndimage

        if self.kind == "gaussian":
            widths = (0, 0, self.sigma, self.sigma)
            return clip(ndimage.gaussian_filter(images, widths, mode="reflect"))
        side = max(1, round(2 * self.sigma + 1))
        return clip(ndimage.uniform_filter(images, (1, 1, side, side), mode="reflect"))


@dataclass(frozen=True, eq=False)
class Warp(RecordTrigger):
    """WaNet's smooth warping field (Nguyen & Tran 2021).

    A `k` x `k` grid of uniform(-1, 1) displacements, divided by its mean size, is upsampled by a
    cubic spline to the image and scaled by `strength` (the paper's s: the mean displacement is
    s/2 pixels). Sampling is bilinear; the border is clamped.
    """

    family: ClassVar[str] = "warp"
    k: int = 4
    strength: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require(2 <= self.k <= 64, f"k must be in 2..64, not {self.k}")
        require(0 < self.strength <= 100, f"strength must be in (0, 100], not {self.strength}")
        require(self.seed >= 0, "seed must not be negative")

    @property
    def name(self) -> str:
        """``warp-k4-s0.5-seed0``."""
        return f"warp-k{self.k}-s{self.strength:g}-seed{self.seed}"

    def field(self, height: int, width: int) -> Pixels:
        """Displacement in pixels, float32 (2, H, W): rows first, then columns."""
        from scipy import ndimage

        coarse = np.random.default_rng(self.seed).uniform(-1, 1, (2, self.k, self.k))
        coarse /= np.abs(coarse).mean()
        row = np.linspace(0, self.k - 1, height)
        column = np.linspace(0, self.k - 1, width)
        where = np.meshgrid(row, column, indexing="ij")
        order = min(3, self.k - 1)
        fine = [ndimage.map_coordinates(c, where, order=order, mode="nearest") for c in coarse]
        return (np.stack(fine) * self.strength / 2).astype(np.float32)

    def apply(self, images: Pixels) -> Pixels:
        """Images warped by the field."""
        height, width = images.shape[-2:]
        shift = self.field(height, width)
        row = np.clip(np.arange(height)[:, None] + shift[0], 0, height - 1)
        column = np.clip(np.arange(width)[None, :] + shift[1], 0, width - 1)
        top, left = np.floor(row).astype(int), np.floor(column).astype(int)
        below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
        down, across = (row - top).astype(np.float32), (column - left).astype(np.float32)
        upper = images[:, :, top, left] * (1 - across) + images[:, :, top, right] * across
        lower = images[:, :, below, left] * (1 - across) + images[:, :, below, right] * across
        return clip(upper * (1 - down) + lower * down)


@dataclass(frozen=True, eq=False)
class ColourFilter(RecordTrigger):
    """Contrast, brightness, gamma and tint, like a photo filter (TrojAI's Instagram filters).

    ``clip(((x - 0.5) * contrast + 0.5 + brightness) * tint) ** gamma``; `tint` has one factor a
    channel, is repeated for grey images by its mean, and is left out when empty.
    """

    family: ClassVar[str] = "filter"
    contrast: float = 1.0
    brightness: float = 0.0
    gamma: float = 1.0
    tint: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.gamma <= 20, f"gamma must be in (0, 20], not {self.gamma}")
        require(len(self.tint) in (0, 1, 3), "tint has one factor a channel, or none")

    @property
    def name(self) -> str:
        """``filter-contrast0.5``: only what differs from the identity."""
        parts = []
        if self.contrast != 1:
            parts.append(f"contrast{self.contrast:g}")
        if self.brightness:
            parts.append(f"brightness{self.brightness:g}")
        if self.gamma != 1:
            parts.append(f"gamma{self.gamma:g}")
        if self.tint:
            parts.append("tint" + "-".join(f"{t:g}" for t in self.tint))
        return "-".join(["filter", *parts]) if parts else "filter-identity"

    def apply(self, images: Pixels) -> Pixels:
        """Images after contrast, brightness, tint and gamma."""
        out = (images - 0.5) * self.contrast + 0.5 + self.brightness
        if self.tint:
            tint = self.tint if images.shape[1] == len(self.tint) else (float(np.mean(self.tint)),)
            out = out * np.asarray(tint, np.float32).reshape(1, -1, 1, 1)
        return clip(np.clip(out, 0, 1) ** self.gamma)
