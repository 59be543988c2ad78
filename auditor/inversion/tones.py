"""Tones: a family that changes colour and contrast and leaves every shape where it is.

Photo filters (the Instagram filters of ABS, Liu et al., 2019, and of TrojAI) write nothing on the
image and add no fixed pattern: what they change depends on each pixel's own value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from auditor.inversion.bounds import Bounds
from auditor.inversion.families import Family, Parameters, boxed
from auditor.triggers.interface import Pixels, Trigger
from auditor.triggers.record import RecordTrigger, clip, require

KNOTS = 5
"""Values of a tone curve, from black to white."""


@dataclass(frozen=True, eq=False)
class ToneCurve(RecordTrigger):
    """``x + curve(x) + mix x``, clipped, pixel by pixel.

    `curve` (C, k) is what a channel gains from black to white, straight lines between; `mix` (C, C)
    what it gains of the others.
    """

    family: ClassVar[str] = "tone-curve"
    curve: Pixels
    mix: Pixels
    label: str = "recovered"

    def __post_init__(self) -> None:
        require(self.curve.ndim == 2 and self.curve.shape[1] > 1, "curve is (C, k), k at least 2")
        require(self.mix.shape == (len(self.curve),) * 2, "mix is (C, C)")

    @property
    def name(self) -> str:
        """``recovered-tone-0.21``: the label and the root mean square gain."""
        gains = np.square(self.curve).mean() + np.square(self.mix).mean()
        return f"{self.label}-tone-{float(np.sqrt(gains)):.2f}"

    def apply(self, images: Pixels) -> Pixels:
        """Every pixel by its own value; images need the curve's channels."""
        knots = np.linspace(0, 1, self.curve.shape[1], dtype=np.float32)
        gained = [np.interp(images[:, c], knots, values) for c, values in enumerate(self.curve)]
        mixed = np.einsum("cd,ndhw->nchw", self.mix, images)
        return clip(images + np.stack(gained, 1).astype(np.float32) + mixed)


class Tone(Family):
    """A curve a channel and a mix of channels; size = root mean square of what they add."""

    name = "tone"
    rate = 0.03
    weight = 2.0
    steps = 0.6
    images = 0.5
    # Clean networks send all flat or pale images to one class, with any gap to the next.
    bounds = Bounds(silent=True)
    limit = 0.15
    """Of the whole range, from black to white: stronger filters lead ordinary networks to the class
    of grey or bright images as well (a bag on a grey ground, a ship on a pale one)."""

    @property
    def unit(self) -> float:
        """The whole range of values."""
        return 1.0

    def start(self, targets: int, draw: torch.Generator) -> Parameters:
        """Close to no change; grey images have nothing to mix."""
        channels = self.shape[0]
        curve = 0.03 * torch.randn((targets, channels, KNOTS), generator=draw)
        if channels == 1:
            return (curve,)
        return curve, 0.03 * torch.randn((targets, channels, channels), generator=draw)

    def apply(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Linear in the parameters; gradients also pass where the box 0..1 cuts."""
        raw = images
        if len(parameters) > 1:
            raw = raw + torch.einsum("tcd,tbdhw->tbchw", parameters[1], images)
        at = images * (KNOTS - 1)
        for knot in range(KNOTS):
            near = (1 - (at - knot).abs()).clamp_min(0.0)
            raw = raw + parameters[0][:, None, :, knot, None, None] * near
        return boxed(raw)

    def size(self, parameters: Parameters) -> Tensor:
        """Curve and mix count alike."""
        squares = sum(p.square().mean((1, 2)) for p in parameters)
        return (squares + torch.as_tensor(1e-12)).sqrt()

    def trigger(self, parameters: Parameters, row: int) -> Trigger:
        """As a `ToneCurve`."""
        found = [p[row].detach().cpu().numpy().astype(np.float32) for p in parameters]
        channels = self.shape[0]
        mix = found[1] if len(found) > 1 else np.zeros((channels, channels), np.float32)
        return ToneCurve(found[0], mix)
