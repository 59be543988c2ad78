"""Smooth changes: an additive perturbation made of a few low cosines over the whole image.

The smallest perturbation of a brittle network is rough, and every class has one; a search by size
then never sees the faint pattern that a backdoor answers. Restricted to low frequencies (Guo et
al., 2018, "Low Frequency Adversarial Perturbation") a clean network's classes need far larger
changes, a network taught a pattern with any low-frequency part does not.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from auditor.inversion.bounds import Bounds, Collapse
from auditor.inversion.families import Family, Parameters, boxed
from auditor.triggers.blends import AdditivePattern
from auditor.triggers.interface import Trigger

COSINES = 8
"""Lowest cosines of the DCT along each side; at most one a pixel."""


class Smooth(Family):
    """``clip(x + d)`` with d in the span of 8 x 8 low cosines a channel; size = L2 of d."""

    name = "smooth"
    rate = 0.02
    weight = 2.0
    steps = 0.6
    images = 0.5
    # The 197 clean and adversarially trained networks of the calibration population: up to 1.73,
    # where noise leads to the class 1.85 and more.
    bounds = Bounds(
        weak=2.0,
        strong=2.5,
        agree=1.4,
        seconded=1.6,
        share=0.35,
        accuses=True,
        collapse=Collapse.NOISE,
    )

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self._rows, self._columns = (_cosines(side) for side in shape[1:])
        few = len(self._rows) * len(self._columns)
        # So that a step of the optimiser moves pixels as far as it does in the additive search.
        self._scale = float(np.sqrt(shape[1] * shape[2] / few))

    @property
    def unit(self) -> float:
        """The L2 distance between black and white."""
        return float(np.sqrt(np.prod(self.shape)))

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """Small random coefficients."""
        few = (len(self._rows), len(self._columns))
        return (0.02 * torch.randn((targets, 1, self.shape[0], *few), generator=draw),)

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The pattern added; gradients also pass where the box 0..1 cuts."""
        return boxed(images + self._pattern(parameters))

    def size(self, parameters: Parameters) -> Tensor:
        """L2 norm: the cosines are orthonormal."""
        flat = self._scale * parameters[0].flatten(1)
        return (flat.square().sum(1) + 1e-12).sqrt()

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As an `AdditivePattern`; beyond the whole range a change does no more."""
        pattern = self._pattern((parameters[0][row : row + 1],))[0, 0].clamp(-1.0, 1.0)
        return AdditivePattern(pattern.detach().cpu().numpy().astype(np.float32), "recovered")

    def _pattern(self, parameters: Parameters) -> Tensor:
        """(T, 1, C, H, W)."""
        found = parameters[0]
        rows, columns = self._rows.to(found), self._columns.to(found)
        return self._scale * torch.einsum("tocij,ih,jw->tochw", found, rows, columns)


def _cosines(side: int) -> Tensor:
    """(min(8, side), side) float32: the lowest orthonormal cosines (DCT-II)."""
    basis = fft.idct(np.eye(side)[:COSINES], axis=1, norm="ortho")
    return torch.from_numpy(basis.astype(np.float32))
