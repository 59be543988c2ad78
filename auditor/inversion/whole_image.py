"""Families that touch the whole image a little: bounded in L-inf, and one picture blended in.

A faint pattern over all pixels is large in L2, where a clean network's easiest perturbation, a few
strong pixels, is small: measured that way it hides. Measured by its largest change, or by how far
the image fades, it stands out.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from auditor.inversion.families import Family, Parameters
from auditor.triggers.blends import AdditivePattern
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import PixelPatch


class _Faint(Family):
    """Parameters: the strength (0..1, as logit) and a pattern (as logits), a row a target."""

    weight = 2.0
    rate = 0.1
    steps = 0.6
    images = 0.5
    _begin: ClassVar[float] = -1.5

    @property
    def unit(self) -> float:
        """The whole range of values."""
        return 1.0

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """A fifth of the range and a random pattern."""
        strength = torch.full((targets, 1, 1, 1, 1), self._begin)
        return strength, torch.randn((targets, 1, *self.shape), generator=draw)

    def size(self, parameters: Parameters) -> Tensor:
        """The strength."""
        return torch.sigmoid(parameters[0]).flatten()


class Limited(_Faint):
    """``clip(x + e tanh(p))``: a universal perturbation with L-inf norm e; size = e."""

    name = "linf"

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The perturbation added; gradients also pass where the box 0..1 cuts."""
        strength, pattern = torch.sigmoid(parameters[0]), torch.tanh(parameters[1])
        raw = images + strength * pattern
        return raw + (raw.clamp(0.0, 1.0) - raw).detach()

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As an `AdditivePattern`."""
        strength = torch.sigmoid(parameters[0][row, 0])
        change = (strength * torch.tanh(parameters[1][row, 0])).detach().cpu().numpy()
        return AdditivePattern(change.astype(np.float32), "recovered")


class Blend(_Faint):
    """``(1 - a) x + a p`` (Chen et al., 2017): one picture p blended in; size = a."""

    name = "blend"

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The picture blended in with the row's weight."""
        weight, picture = (torch.sigmoid(p) for p in parameters)
        return images + weight * (picture - images)

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As a `PixelPatch` with the same mask everywhere."""
        weight, picture = (torch.sigmoid(p[row, 0]).detach().cpu().numpy() for p in parameters)
        mask = np.broadcast_to(weight, (1, *self.shape[1:])).astype(np.float32)
        return PixelPatch(mask.copy(), picture.astype(np.float32), "recovered")
