"""Families that transform the image itself: a smoothing kernel and a smooth warp.

Blurs and WaNet's warps (Nguyen & Tran, 2021) set no pixels and are not additive, so that a patch or
one fixed perturbation only finds what they have in common with one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from auditor.inversion.bounds import Bounds, Collapse
from auditor.inversion.families import Family, Parameters
from auditor.triggers.interface import Pixels, Trigger
from auditor.triggers.record import RecordTrigger, clip, require

KERNEL, GRID = 5, 4


@dataclass(frozen=True, eq=False)
class KernelFilter(RecordTrigger):
    """Every channel convolved with `kernel` (1, k, k), non-negative, sum 1; edges mirrored."""

    family: ClassVar[str] = "kernel-filter"
    kernel: Pixels
    label: str = "recovered"

    def __post_init__(self) -> None:
        require(self.kernel.ndim == 3 and self.kernel.shape[0] == 1, "kernel is (1, k, k)")

    @property
    def name(self) -> str:
        """``recovered-kernel-0.87px``: the label and how far the kernel spreads light."""
        reach = float((self.kernel[0] * _distance(self.kernel.shape[1])).sum())
        return f"{self.label}-kernel-{reach:.2f}px"

    def apply(self, images: Pixels) -> Pixels:
        """Images filtered."""
        from scipy import ndimage

        return clip(ndimage.correlate(images, self.kernel[None], mode="mirror"))


@dataclass(frozen=True, eq=False)
class FlowField(RecordTrigger):
    """Images sampled at displaced places: `flow` (2, H, W) in pixels, columns first."""

    family: ClassVar[str] = "flow-field"
    flow: Pixels
    label: str = "recovered"

    def __post_init__(self) -> None:
        require(self.flow.ndim == 3 and self.flow.shape[0] == 2, "flow is (2, H, W)")

    @property
    def name(self) -> str:
        """``recovered-warp-0.61px``: the label and the root mean square displacement."""
        return f"{self.label}-warp-{float(np.sqrt(2 * np.square(self.flow).mean())):.2f}px"

    def apply(self, images: Pixels) -> Pixels:
        """Images warped, bilinear, border clamped; H, W must match the flow."""
        with torch.no_grad():
            flow = torch.from_numpy(self.flow)[None]
            warped = _warp(torch.from_numpy(np.ascontiguousarray(images))[None], flow)
        return clip(warped[0].numpy())


class Smoothing(Family):
    """A 5 x 5 kernel, non-negative with sum 1; size = mean distance it moves light, in pixels."""

    name = "blur"
    share = 0.8
    rate = 0.2
    weight = 1.0
    steps = 0.6
    images = 0.5
    # Published clean networks of MNIST send every blurred digit to one class, with any gap to the
    # next; a stronger blur than this share makes all images look alike.
    bounds = Bounds(share=0.2)
    limit = float(np.hypot(KERNEL // 2, KERNEL // 2))
    """From the middle of the kernel to its corner, in pixels."""

    @property
    def unit(self) -> float:
        """A quarter of the image side, in pixels."""
        return self.shape[1] / 4

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """Half of the light stays in place."""
        logits = 0.1 * torch.randn((targets, KERNEL * KERNEL), generator=draw)
        logits[:, KERNEL * KERNEL // 2] += 3.2
        return (logits,)

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """One grouped convolution for all targets."""
        targets, batch, channels, height, width = images.shape
        kernels = torch.softmax(parameters[0], 1).reshape(targets, 1, KERNEL, KERNEL)
        planes = images.permute(1, 2, 0, 3, 4).reshape(batch * channels, targets, height, width)
        edge = KERNEL // 2
        padded = functional.pad(planes, (edge, edge, edge, edge), mode="reflect")
        out = functional.conv2d(padded, kernels, groups=targets)
        return out.reshape(batch, channels, targets, height, width).permute(2, 0, 1, 3, 4)

    def size(self, parameters: Parameters) -> Tensor:
        """Mean distance."""
        distance = torch.from_numpy(_distance(KERNEL).ravel()).to(parameters[0])
        return torch.softmax(parameters[0], 1) @ distance

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As a `KernelFilter`."""
        kernel = torch.softmax(parameters[0][row], 0).reshape(1, KERNEL, KERNEL)
        return KernelFilter(kernel.detach().cpu().numpy().astype(np.float32))


class Warping(Family):
    """A 4 x 4 grid of displacements, upsampled smoothly; size = root mean square displacement."""

    name = "warp"
    rate = 0.15
    weight = 2.0
    steps = 0.6
    images = 0.5
    # 171 of those 197 are not reached at all; of the others one has 2.75, the next 1.25.
    bounds = Bounds(
        weak=2.2, strong=3.0, agree=1.5, seconded=2.2, share=0.25, collapse=Collapse.NOWHERE
    )

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.limit = self.unit

    @property
    def unit(self) -> float:
        """A quarter of the image side, in pixels."""
        return self.shape[1] / 4

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """Small random displacements."""
        return (0.3 * torch.randn((targets, 2, GRID, GRID), generator=draw),)

    def _flow(self, parameters: Parameters) -> Tensor:
        size = self.shape[1:]
        return functional.interpolate(parameters[0], size=size, mode="bicubic", align_corners=True)

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Each row's images sampled at its displaced places."""
        return _warp(images, self._flow(parameters))

    def size(self, parameters: Parameters) -> Tensor:
        """Root mean square length of the displacement, in pixels."""
        flow = self._flow(parameters)
        return (flow.square().sum(1).mean(dim=(1, 2)) + 1e-12).sqrt()

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As a `FlowField`."""
        flow = self._flow(tuple(p[row : row + 1] for p in parameters))[0]
        return FlowField(flow.detach().cpu().numpy().astype(np.float32))


def _distance(side: int) -> Pixels:
    row, column = np.indices((side, side)) - side // 2
    distance: Pixels = np.hypot(row, column).astype(np.float32)
    return distance


def _warp(images: Tensor, flow: Tensor) -> Tensor:
    """(T, B, C, H, W) images, (T, 2, H, W) flow in pixels (columns, rows)."""
    targets, batch, channels, height, width = images.shape
    ys = torch.linspace(-1, 1, height, device=images.device)
    xs = torch.linspace(-1, 1, width, device=images.device)
    row, column = torch.meshgrid(ys, xs, indexing="ij")
    scale = flow.new_tensor([2 / max(1, width - 1), 2 / max(1, height - 1)])
    place = torch.stack([column, row], -1) + flow.permute(0, 2, 3, 1) * scale
    stacked = images.reshape(targets, batch * channels, height, width)
    out = functional.grid_sample(
        stacked, place, mode="bilinear", padding_mode="border", align_corners=True
    )
    return out.reshape(images.shape)
