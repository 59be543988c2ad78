"""Triggers spread over the whole image: blends, noise, sinusoids, additive patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auditor.triggers.interface import Pixels
from auditor.triggers.record import RecordTrigger, clip, require


@dataclass(frozen=True, eq=False)
class BlendedNoise(RecordTrigger):
    """``(1 - alpha) x + alpha n`` with one uniform noise image `n` (Chen et al. 2017)."""

    family: ClassVar[str] = "blended-noise"
    alpha: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 < self.alpha <= 1, f"alpha must be in (0, 1], not {self.alpha}")
        require(self.seed >= 0, "seed must not be negative")

    @property
    def name(self) -> str:
        """``blended-noise-alpha0.2-seed0``."""
        return f"blended-noise-alpha{self.alpha:g}-seed{self.seed}"

    def apply(self, images: Pixels) -> Pixels:
        """Images blended with the seeded noise of their own (C, H, W)."""
        noise = np.random.default_rng(self.seed).random(images.shape[1:], np.float32)
        return clip((1 - self.alpha) * images + self.alpha * noise)


@dataclass(frozen=True, eq=False)
class AdditiveNoise(RecordTrigger):
    """One fixed noise image of low amplitude added: L-inf distance at most `amplitude`.

    `kind` is ``uniform`` (in -amplitude..amplitude) or ``sign`` (every pixel plus or minus it).
    """

    family: ClassVar[str] = "additive-noise"
    amplitude: float = 0.1
    seed: int = 0
    kind: str = "uniform"

    def __post_init__(self) -> None:
        require(0 < self.amplitude <= 1, f"amplitude must be in (0, 1], not {self.amplitude}")
        require(self.kind in ("uniform", "sign"), "kind must be uniform or sign")
        require(self.seed >= 0, "seed must not be negative")

    @property
    def name(self) -> str:
        """``additive-noise-uniform-0.1-seed0``."""
        return f"additive-noise-{self.kind}-{self.amplitude:g}-seed{self.seed}"

    def apply(self, images: Pixels) -> Pixels:
        """Images plus the seeded noise, clipped to 0..1."""
        noise = np.random.default_rng(self.seed).uniform(-1, 1, images.shape[1:])
        if self.kind == "sign":
            noise = np.where(noise < 0, -1.0, 1.0)
        return clip(images + (self.amplitude * noise).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Sinusoid(RecordTrigger):
    """SIG: ``x + amplitude * sin(2 pi j frequency / W)`` (Barni, Kallas, Tondi 2019).

    `amplitude` is in 0..1 image units, `frequency` in waves per image side; `axis` ``columns``
    varies along a row (the paper's), ``rows`` down a column, ``diagonal`` along both.
    """

    family: ClassVar[str] = "sinusoid"
    amplitude: float = 0.1
    frequency: float = 6.0
    axis: str = "columns"

    def __post_init__(self) -> None:
        require(0 < self.amplitude <= 1, f"amplitude must be in (0, 1], not {self.amplitude}")
        require(self.axis in ("columns", "rows", "diagonal"), "axis: columns, rows or diagonal")

    @property
    def name(self) -> str:
        """``sinusoid-columns-0.1-f6``."""
        return f"sinusoid-{self.axis}-{self.amplitude:g}-f{self.frequency:g}"

    def apply(self, images: Pixels) -> Pixels:
        """Images plus the wave, clipped to 0..1."""
        height, width = images.shape[-2:]
        row, column = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
        place = {"columns": column + 0 * row, "rows": row + 0 * column, "diagonal": row + column}
        wave = self.amplitude * np.sin(2 * np.pi * self.frequency * place[self.axis])
        return clip(images + wave.astype(np.float32))


@dataclass(frozen=True, eq=False)
class AdditivePattern(RecordTrigger):
    """``clip(x + pattern)``: a recovered or published additive trigger.

    `pattern` float32 (1 or C, H, W) in -1..1 fixes the image size. `label` goes into the name.
    """

    family: ClassVar[str] = "additive-pattern"
    pattern: Pixels
    label: str = "additive"

    def __post_init__(self) -> None:
        require(self.pattern.ndim == 3, "pattern is (C, H, W)")
        require(bool((np.abs(self.pattern) <= 1).all()), "pattern must be in -1..1")

    @property
    def name(self) -> str:
        """``additive-l2-1.23``: the label and the L2 norm."""
        return f"{self.label}-l2-{float(np.linalg.norm(self.pattern)):.3g}"

    def apply(self, images: Pixels) -> Pixels:
        """Images plus the pattern, clipped to 0..1; H, W must match the pattern."""
        return clip(images + self.pattern)
