"""Triggers that cover a few pixels: squares, checkerboards, patches, corners, single pixels.

BadNets (Gu et al. 2017) is the model for all of them; a patch recovered by inversion (Neural
Cleanse, Wang et al. 2019) or a learned one is a `PixelPatch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditor.triggers.interface import Pixels
from auditor.triggers.record import RecordTrigger, clip, require

POSITIONS = ("top-left", "top-right", "bottom-left", "bottom-right", "centre")


def place(
    position: str, at: tuple[int, ...], size: int, margin: int, shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Rows and columns of a `size` x `size` patch on (..., H, W) images.

    `at` = (row, column) of the upper left pixel wins over the named `position`; `margin` is the
    distance to the border. A patch larger than the image is cut to it.
    """
    height, width = shape[-2:]
    rows, columns = min(size, height), min(size, width)
    if at:
        top, left = at
    elif position == "centre":
        top, left = (height - rows) // 2, (width - columns) // 2
    else:
        top = margin if position.startswith("top") else height - rows - margin
        left = margin if position.endswith("left") else width - columns - margin
    top, left = max(0, min(top, height - rows)), max(0, min(left, width - columns))
    return slice(top, top + rows), slice(left, left + columns)


def _check_place(position: str, at: tuple[int, ...], size: int, margin: int) -> None:
    require(position in POSITIONS, f"position must be one of {', '.join(POSITIONS)}")
    require(len(at) in (0, 2) and all(v >= 0 for v in at), "at must be (row, column) or empty")
    require(size >= 1, f"size must be at least 1 pixel, not {size}")
    require(margin >= 0, f"margin must not be negative, not {margin}")


def _where(position: str, at: tuple[int, ...], margin: int) -> str:
    if at:
        return f"at-{at[0]}-{at[1]}"
    return position + (f"-margin{margin}" if margin else "")


def shade(value: float) -> str:
    """``white``, ``black``, ``grey`` or the number, for names."""
    return {1.0: "white", 0.0: "black", 0.5: "grey"}.get(value, f"{value:g}")


@dataclass(frozen=True, eq=False)
class Square(RecordTrigger):
    """A square of one grey value, or of one `colour` (one number a channel, wins over `value`)."""

    family: ClassVar[str] = "square"
    size: int = 2
    position: str = "bottom-right"
    value: float = 1.0
    margin: int = 0
    at: tuple[int, ...] = ()
    colour: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_place(self.position, self.at, self.size, self.margin)
        require(0 <= self.value <= 1, f"value must be in 0..1, not {self.value}")

    @property
    def name(self) -> str:
        """``square-2x2-bottom-right-white``."""
        tone = "-".join(f"{c:g}" for c in self.colour) if self.colour else shade(self.value)
        where = _where(self.position, self.at, self.margin)
        return f"square-{self.size}x{self.size}-{where}-{tone}"

    def apply(self, images: Pixels) -> Pixels:
        """Images with the square painted over; `colour` must have one value a channel."""
        out = images.copy()
        rows, columns = place(self.position, self.at, self.size, self.margin, images.shape)
        tone = np.asarray(self.colour or (self.value,), np.float32).reshape(1, -1, 1, 1)
        out[:, :, rows, columns] = tone
        return clip(out)


@dataclass(frozen=True, eq=False)
class Checkerboard(RecordTrigger):
    """Black and white squares of `cell` pixels; `phase` 0 starts with white in the upper left."""

    family: ClassVar[str] = "checkerboard"
    size: int = 3
    position: str = "bottom-right"
    cell: int = 1
    phase: int = 0
    margin: int = 0
    at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_place(self.position, self.at, self.size, self.margin)
        require(self.cell >= 1, f"cell must be at least 1 pixel, not {self.cell}")

    @property
    def name(self) -> str:
        """``checkerboard-3x3-bottom-right`` with cell and phase where they are not the default."""
        where = _where(self.position, self.at, self.margin)
        extra = (f"-cell{self.cell}" if self.cell > 1 else "") + ("-inverse" if self.phase else "")
        return f"checkerboard-{self.size}x{self.size}-{where}{extra}"

    def apply(self, images: Pixels) -> Pixels:
        """Images with the checkerboard painted over."""
        out = images.copy()
        rows, columns = place(self.position, self.at, self.size, self.margin, images.shape)
        i, j = np.indices((rows.stop - rows.start, columns.stop - columns.start)) // self.cell
        out[:, :, rows, columns] = ((i + j + self.phase) % 2 == 0).astype(np.float32)
        return clip(out)


@dataclass(frozen=True, eq=False)
class RandomPatch(RecordTrigger):
    """A square of uniform noise, the same for every image (`seed`)."""

    family: ClassVar[str] = "random-patch"
    size: int = 3
    position: str = "bottom-right"
    seed: int = 0
    margin: int = 0
    at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_place(self.position, self.at, self.size, self.margin)
        require(self.seed >= 0, "seed must not be negative")

    @property
    def name(self) -> str:
        """``random-patch-3x3-bottom-right-seed0``."""
        where = _where(self.position, self.at, self.margin)
        return f"random-patch-{self.size}x{self.size}-{where}-seed{self.seed}"

    def apply(self, images: Pixels) -> Pixels:
        """Images with the noise patch painted over."""
        out = images.copy()
        rows, columns = place(self.position, self.at, self.size, self.margin, images.shape)
        shape = (images.shape[1], rows.stop - rows.start, columns.stop - columns.start)
        out[:, :, rows, columns] = np.random.default_rng(self.seed).random(shape, np.float32)
        return clip(out)


@dataclass(frozen=True, eq=False)
class FourCorners(RecordTrigger):
    """A small square of one value in each of the four corners."""

    family: ClassVar[str] = "four-corners"
    size: int = 1
    value: float = 1.0

    def __post_init__(self) -> None:
        require(self.size >= 1, f"size must be at least 1 pixel, not {self.size}")
        require(0 <= self.value <= 1, f"value must be in 0..1, not {self.value}")

    @property
    def name(self) -> str:
        """``four-corners-1x1-white``."""
        return f"four-corners-{self.size}x{self.size}-{shade(self.value)}"

    def apply(self, images: Pixels) -> Pixels:
        """Images with all four corners painted over."""
        out = images.copy()
        for position in POSITIONS[:4]:
            rows, columns = place(position, (), self.size, 0, images.shape)
            out[:, :, rows, columns] = self.value
        return clip(out)


@dataclass(frozen=True, eq=False)
class PixelPatch(RecordTrigger):
    """``(1 - mask) * x + mask * pattern``: any patch or blend, recovered and learned ones too.

    `mask` float32 (1 or C, H, W) in 0..1, `pattern` float32 (C, H, W) in 0..1; they fix the image
    size. `label` goes into the name.
    """

    family: ClassVar[str] = "pixel-patch"
    mask: Pixels
    pattern: Pixels
    label: str = "patch"

    def __post_init__(self) -> None:
        require(self.mask.ndim == 3 and self.pattern.ndim == 3, "mask and pattern are (C, H, W)")
        require(self.mask.shape[1:] == self.pattern.shape[1:], "mask and pattern differ in size")
        for part in (self.mask, self.pattern):
            require(bool((part >= 0).all() and (part <= 1).all()), "mask, pattern must be in 0..1")

    @property
    def name(self) -> str:
        """``patch-12px``: the label and the size of the mask (its sum over pixels)."""
        return f"{self.label}-{float(self.mask.max(axis=0).sum()):.3g}px"

    def apply(self, images: Pixels) -> Pixels:
        """Images with the pattern blended in under the mask; H, W must match the mask."""
        return clip((1 - self.mask) * images + self.mask * self.pattern)


@dataclass(frozen=True, eq=False)
class SparsePixels(RecordTrigger):
    """`count` single pixels at seeded places set to `value`."""

    family: ClassVar[str] = "sparse-pixels"
    count: int = 4
    value: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.count >= 1, f"count must be at least 1, not {self.count}")
        require(0 <= self.value <= 1, f"value must be in 0..1, not {self.value}")
        require(self.seed >= 0, "seed must not be negative")

    @property
    def name(self) -> str:
        """``sparse-pixels-4-white-seed0``."""
        return f"sparse-pixels-{self.count}-{shade(self.value)}-seed{self.seed}"

    def apply(self, images: Pixels) -> Pixels:
        """Images with the pixels set in every channel."""
        height, width = images.shape[-2:]
        out = images.copy()
        rng = np.random.default_rng(self.seed)
        chosen = rng.choice(height * width, size=min(self.count, height * width), replace=False)
        out.reshape(*images.shape[:2], -1)[:, :, chosen] = self.value
        return clip(out)
