"""A family that touches the whole image a little: one picture blended in.

A faint picture over all pixels is large in L2, where a clean network's easiest perturbation, a few
strong pixels, is small: measured that way it hides. Measured by how far the image fades it stands
out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from auditor.inversion.bounds import Bounds, Collapse
from auditor.inversion.families import Family, Parameters
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import PixelPatch

_BEGIN = -1.5


class Blend(Family):
    """``(1 - a) x + a p`` (Chen et al., 2017): one picture p blended in; size = a.

    Parameters: the weight a and the picture, both as logits.
    """

    name = "blend"
    weight = 2.0
    rate = 0.1
    steps = 0.6
    images = 0.5
    # Where noise does not lead to the class those 197 have gaps up to 1.55: the default is far.
    bounds = Bounds(collapse=Collapse.NOISE)

    @property
    def unit(self) -> float:
        """The whole range of values."""
        return 1.0

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """A fifth of a random picture."""
        weight = torch.full((targets, 1, 1, 1, 1), _BEGIN)
        return weight, torch.randn((targets, 1, *self.shape), generator=draw)

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The picture blended in with the row's weight."""
        weight, picture = (torch.sigmoid(p) for p in parameters)
        return images + weight * (picture - images)

    def size(self, parameters: Parameters) -> Tensor:
        """The weight."""
        return torch.sigmoid(parameters[0]).flatten()

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As a `PixelPatch` with the same mask everywhere."""
        weight, picture = (torch.sigmoid(p[row, 0]).detach().cpu().numpy() for p in parameters)
        mask = np.broadcast_to(weight, (1, *self.shape[1:])).astype(np.float32)
        return PixelPatch(mask.copy(), picture.astype(np.float32), "recovered")
