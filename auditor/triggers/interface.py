"""Triggers: what an attacker stamps on an image. One small frozen class a family.

The same classes serve the zoo (to poison), probing (to try known triggers), inversion (as the
result of a search) and sanitizing (to unlearn).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from auditor.findings import Json

Pixels = NDArray[np.float32]


class Trigger(ABC):
    """Apply to float32 (N, C, H, W) images in 0..1; the result has the same shape and range."""

    family: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """Short, unique within a library: ``square-2x2-bottom-right-white``."""

    @abstractmethod
    def apply(self, images: Pixels) -> Pixels:
        """A new array; the input is not modified. Works for any C, H, W the family allows."""

    @abstractmethod
    def to_json(self) -> dict[str, Json]:
        """``{"family": ..., parameters}``: what a manifest stores and `from_json` reads back."""


@dataclass(frozen=True, slots=True)
class RecoveredTrigger:
    """A trigger found by probing or inversion, with the evidence for it.

    `asr` is the share of held-out images of other classes sent to `target`; `size` the family's own
    measure (pixels for a patch, L2 for an additive trigger); `baseline` the rate at which the same
    images go to `target` without it.
    """

    trigger: Trigger
    target: int
    asr: float
    baseline: float
    size: float
    source: str
