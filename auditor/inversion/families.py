"""Trigger families as differentiable operators with a size, one set of parameters a target class.

A family never sees the model. Parameters are tuples of tensors whose first axis is the target, so
that one optimiser step serves all targets at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from auditor.inversion.bounds import Bounds, Collapse
from auditor.triggers.blends import AdditivePattern
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import PixelPatch

Parameters = tuple[Tensor, ...]


class Family(ABC):
    """How one kind of trigger is written down, applied and measured."""

    name: ClassVar[str]
    rate: ClassVar[float]
    """Adam's step size."""

    weight: ClassVar[float]
    """Initial weight of the size, which is measured as a share of `unit`, in the loss."""

    steps: ClassVar[float] = 1.0
    """Share of the usual number of steps; less for families of few parameters."""

    images: ClassVar[float] = 1.0
    """Share of the usual number of images a step; less for families that only second others."""

    share: ClassVar[float] = 0.5
    """Share of what is left of the time budget when its turn comes."""

    bounds: ClassVar[Bounds] = Bounds()
    """What its gaps are worth to the rule."""

    limit: float | None = None
    """The largest size a trigger of this family can have, where it is far from replacing the image:
    most classes of most networks are then out of its reach. None for families that write on pixels,
    whose gaps compare with each other."""

    def __init_subclass__(cls, **options: object) -> None:
        """A family of its own is measured for itself: bounds are not inherited."""
        super().__init_subclass__(**options)
        if "bounds" not in cls.__dict__:
            cls.bounds = Bounds()

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    @property
    @abstractmethod
    def unit(self) -> float:
        """The size of a trigger that replaces everything, in the family's own measure."""

    @abstractmethod
    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """Initial parameters for `targets` classes (on the CPU)."""

    @abstractmethod
    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """(T, B, C, H, W) in 0..1 -> the same shape and range, target t's trigger on row t."""

    @abstractmethod
    def size(self, parameters: Parameters) -> Tensor:
        """(T,) differentiable sizes, at least 0, in the family's own measure."""

    @abstractmethod
    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """The trigger of one row, as everything outside the search uses it."""


def boxed(images: Tensor) -> Tensor:
    """`images` cut to 0..1; gradients pass where the box cuts as well."""
    return images + (images.clamp(0.0, 1.0) - images).detach()


class Patch(Family):
    """``(1 - m) x + m p``: mask and pattern (Neural Cleanse, Wang et al., 2019); size: sum of m."""

    name = "patch"
    share = 0.35
    # Of the 197 clean and adversarially trained networks of the calibration population one has a
    # gap of 2.75 (the rule's one high false alarm), those that noise leads astray up to 2.5, the
    # others up to 1.85.
    bounds = Bounds(
        weak=1.85,
        strong=2.2,
        agree=1.4,
        seconded=1.35,
        share=0.15,
        accuses=True,
        collapse=Collapse.NOWHERE,
    )
    rate = 0.2
    weight = 0.5

    @property
    def unit(self) -> float:
        """All pixels."""
        return float(self.shape[1] * self.shape[2])

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """A faint mask and a random pattern, as logits."""
        channels, height, width = self.shape
        mask = 0.1 * torch.randn((targets, 1, 1, height, width), generator=draw) - 1.0
        pattern = torch.randn((targets, 1, channels, height, width), generator=draw)
        return mask, pattern

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The pattern blended in under the mask."""
        mask, pattern = (torch.sigmoid(p) for p in parameters)
        return images + mask * (pattern - images)

    def size(self, parameters: Parameters) -> Tensor:
        """Pixels covered, fractions added up."""
        return torch.sigmoid(parameters[0]).sum(dim=(1, 2, 3, 4))

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As a `PixelPatch`; what the mask leaves below 1 % is dropped."""
        mask = torch.sigmoid(parameters[0][row, 0]).detach().cpu().numpy()
        pattern = torch.sigmoid(parameters[1][row, 0]).detach().cpu().numpy()
        kept = np.where(mask < 0.01, 0.0, mask).astype(np.float32)
        return PixelPatch(kept, pattern.astype(np.float32), "recovered")


class Additive(Family):
    """``clip(x + d)``: one perturbation for all images (universal perturbation); size = L2 of d."""

    name = "additive"
    share = 0.45
    # The same networks: up to 1.98, where noise leads to the class up to 7.2.
    bounds = Bounds(
        weak=2.6,
        strong=3.2,
        agree=1.4,
        seconded=1.35,
        share=0.35,
        accuses=True,
        collapse=Collapse.NOISE,
    )
    rate = 0.02
    weight = 2.0

    @property
    def unit(self) -> float:
        """The L2 distance between black and white."""
        return float(np.sqrt(np.prod(self.shape)))

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """Small random perturbations."""
        return (0.02 * torch.randn((targets, 1, *self.shape), generator=draw),)

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The perturbation added; gradients also pass where the box 0..1 cuts."""
        return boxed(images + torch.tanh(parameters[0]))

    def size(self, parameters: Parameters) -> Tensor:
        """L2 norm."""
        flat = torch.tanh(parameters[0]).flatten(1)
        return (flat.square().sum(1) + 1e-12).sqrt()

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As an `AdditivePattern`."""
        pattern = torch.tanh(parameters[0][row, 0]).detach().cpu().numpy()
        return AdditivePattern(pattern.astype(np.float32), "recovered")
