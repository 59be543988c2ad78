"""From an image in 0..1 to the tensor a model wants: resize, channels, scale, layout.

`Preprocessing` is a frozen record (it goes into the report and comes from flags); `apply` is the
differentiable function it stands for, so attacks and inversion run in image units whatever the
model wants.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from auditor.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS = ("NCHW", "NHWC", "NHW", "flat", "flat-HWC", "flat-1")
"""`flat` is (N, C*H*W), `flat-HWC` (N, H*W*C), `flat-1` (N, C*H*W, 1)."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image in 0..1, (N, C, H, W) RGB or grey, becomes the model's input.

    In this order: resize (or zero-pad when `pad`) to `size`, convert to `channels` (``grey``,
    ``rgb``, ``bgr``), multiply by `scale`, subtract `mean`, divide by `std` per channel, lay out.
    `mean` and `std` are in units of the scaled image. `label` is a word for people.
    """

    layout: str
    size: tuple[int, int]
    channels: str
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    pad: bool = False
    label: str = "0..1"

    def apply(self, images: Tensor) -> Tensor:
        """Differentiable; `images` float (N, C, H, W) in 0..1; the result is the model's input."""
        x = self._channels(self._resize(images))
        if self.scale != 1.0:
            x = x * self.scale
        if any(self.mean) or any(s != 1.0 for s in self.std):
            shape = (1, -1, 1, 1)
            x = (x - x.new_tensor(self.mean).view(shape)) / x.new_tensor(self.std).view(shape)
        return self._lay_out(x)

    def _resize(self, x: Tensor) -> Tensor:
        from torch.nn import functional

        height, width = self.size
        if x.shape[-2:] == (height, width):
            return x
        if self.pad:
            dh, dw = height - x.shape[-2], width - x.shape[-1]
            return functional.pad(x, (dw // 2, dw - dw // 2, dh // 2, dh - dh // 2))
        return functional.interpolate(
            x, size=self.size, mode="bilinear", align_corners=False, antialias=True
        ).clamp(0, 1)

    def _channels(self, x: Tensor) -> Tensor:
        if self.channels == "grey":
            if x.shape[1] == 1:
                return x
            return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        if x.shape[1] == 1:
            return x.expand(-1, 3, -1, -1)
        return x.flip(1) if self.channels == "bgr" else x

    def _lay_out(self, x: Tensor) -> Tensor:
        if self.layout == "NHWC":
            return x.permute(0, 2, 3, 1).contiguous()
        if self.layout == "NHW":
            return x[:, 0].contiguous()
        if self.layout == "flat":
            return x.reshape(len(x), -1)
        if self.layout == "flat-HWC":
            return x.permute(0, 2, 3, 1).reshape(len(x), -1)
        if self.layout == "flat-1":
            return x.reshape(len(x), -1, 1)
        return x.contiguous()

    def describe(self) -> str:
        """One line for people, such as ``NCHW 28x28 grey, 0..1``."""
        how = " (zero-padded)" if self.pad else ""
        return f"{self.layout} {self.size[0]}x{self.size[1]}{how} {self.channels}, {self.label}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in the report."""
        record = asdict(self)
        for key in ("size", "mean", "std"):
            record[key] = list(record[key])
        return record


def from_json(record: dict[str, Any]) -> Preprocessing:
    """Inverse of `Preprocessing.to_json`; raises ``TypeError``/``KeyError`` on other records."""
    values = dict(record)
    for key in ("size", "mean", "std"):
        if key in values:
            values[key] = tuple(values[key])
    return Preprocessing(**values)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user stated with ``--layout --scale --mean --std --size``; None means infer."""

    layout: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in LAYOUTS:
            raise UsageError(f"--layout must be one of {', '.join(LAYOUTS)}, not {self.layout!r}")
        if self.std is not None and any(s == 0 for s in self.std):
            raise UsageError("--std must not contain 0")

    @property
    def fixes_values(self) -> bool:
        """True when the user stated anything about pixel values."""
        return any(v is not None for v in (self.scale, self.mean, self.std))

    def values(self, base: Preprocessing) -> Preprocessing:
        """`base` with the stated values in place."""
        return replace(
            base,
            scale=1.0 if self.scale is None else self.scale,
            mean=self.mean or (0.0,),
            std=self.std or (1.0,),
            label="as given",
        )
