"""Moving, copying, averaging and joining elements: no negative coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from auditor.bounds.convert import (
    CONVERTERS,
    Converter,
    Slot,
    Step,
    constants,
    converts,
    only_slot,
)
from auditor.bounds.graph import Affine, Unsupported


def _same(coefficients: Tensor, shape: torch.Size) -> Tensor:
    """Transpose of a step that moves no element: reshape."""
    return coefficients.reshape(-1, *shape)


_REARRANGING = (
    "view.default", "_unsafe_view.default", "reshape.default", "permute.default", "t.default",
    "transpose.int", "squeeze.dim", "squeeze.dims", "squeeze.default", "unsqueeze.default",
    "select.int", "slice.Tensor", "expand.default", "clone.default", "alias.default",
    "detach.default", "contiguous.default", "flatten.using_ints", "mean.dim", "sum.dim_IntList",
    "avg_pool2d.default", "_adaptive_avg_pool2d.default", "adaptive_avg_pool2d.default",
    "constant_pad_nd.default", "reflection_pad2d.default", "replication_pad2d.default",
    "flip.default", "roll.default", "pixel_shuffle.default", "pixel_unshuffle.default",
    "upsample_nearest2d.default", "upsample_nearest2d.vec", "upsample_bilinear2d.default",
    "upsample_bilinear2d.vec",
)  # fmt: skip
_RESHAPING = {"view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "clone", "alias", "detach",
              "contiguous", "flatten"}  # fmt: skip
_DTYPE_ARGUMENTS = {"dtype", "memory_format", "implicit", "device", "layout", "pin_memory"}


def _rearranging(name: str) -> Converter:
    packet, _, overload = name.partition(".")
    # A float64 convolution may lay out memory otherwise than the recorded float32 one did.
    called = "reshape" if packet in ("view", "_unsafe_view") else packet
    operator = getattr(getattr(torch.ops.aten, called), overload)

    def convert(value: Any, *rest: Any, **named: Any) -> Step:
        slot = only_slot(value, packet)
        constants([*rest, *named.values()], packet)
        kept = {key: v for key, v in named.items() if key not in _DTYPE_ARGUMENTS}
        pull = _same if packet in _RESHAPING else None
        return Affine(lambda x: operator(x, *rest, **kept), None, pull), (slot,)

    return convert


for _name in _REARRANGING:
    CONVERTERS[f"aten.{_name}"] = _rearranging(_name)


@converts("_to_copy.default", "to.dtype", "lift_fresh_copy.default")
def _copy(value: Any, *rest: Any, **named: Any) -> Step:
    for wanted in (*rest, *named.values()):
        if isinstance(wanted, torch.dtype) and not wanted.is_floating_point:
            raise Unsupported(f"conversion of a value to {wanted}")
    return Affine(lambda x: x.clone(), None, _same), (only_slot(value, "copy"),)


@converts("cat.default")
def _cat(parts: Sequence[Any], dim: int = 0) -> Step:
    slots = tuple(part for part in parts if isinstance(part, Slot))

    def join(fill: bool) -> Callable[..., Tensor]:
        def function(*values: Tensor) -> Tensor:
            held = iter(values)
            whole = []
            for part in parts:
                if isinstance(part, Slot):
                    whole.append(next(held))
                else:
                    whole.append(part if fill else torch.zeros_like(part))
            return torch.cat(whole, dim)

        return function

    return Affine(join(True), join(False)), slots
