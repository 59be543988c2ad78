"""Convolutions in one to three dimensions, with ONNX's padding rules."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.twin.onnx.registry import Node, op

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def window(node: Node, x: Tensor, kernel: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (begins, then ends) of a sliding window over `x`."""
    rank = x.dim() - 2
    strides = list(node.get("strides") or [1] * rank)
    dilations = list(node.get("dilations") or [1] * rank)
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            small = total // 2
            begins.append(small if mode == "SAME_UPPER" else total - small)
            ends.append(total - begins[-1])
        return strides, dilations, begins + ends
    pads = list(node.get("pads") or [0] * (2 * rank)) if mode != "VALID" else [0] * (2 * rank)
    return strides, dilations, pads


def pad_spatial(x: Tensor, pads: list[int], value: float = 0.0) -> Tensor:
    """Pad (or crop) the spatial axes by ONNX `pads`."""
    rank = len(pads) // 2
    flat = [p for i in reversed(range(rank)) for p in (pads[i], pads[rank + i])]
    return F.pad(x, flat, value=value) if any(flat) else x


def convolve(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """The convolution that `node` describes, on floating-point tensors."""
    rank = x.dim() - 2
    strides, dilations, pads = window(node, x, list(w.shape[2:]))
    if pads[:rank] == pads[rank:] and min(pads, default=0) >= 0:
        padding: Any = pads[:rank]
    else:
        x, padding = pad_spatial(x, pads), 0
    if rank not in _CONV:
        raise NotImplementedError(f"convolution over {rank} spatial axes")
    return _CONV[rank](x, w, b, strides, padding, dilations, node.get("group", 1))


@op("Conv")
def conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Convolution."""
    return convolve(node, x, w, b)


@op("com.microsoft::FusedConv")
def fused_conv(
    node: Node, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None
) -> Tensor:
    """Convolution, an optional sum, then an activation (ONNX Runtime's own fusion)."""
    y = convolve(node, x, w, b)
    return activate(node, y if z is None else y + z)


def activate(node: Node, y: Tensor) -> Tensor:
    """The activation that ONNX Runtime fused into `node`."""
    kind = node.get("activation", "")
    a, b = [*(node.get("activation_params") or []), 0.0, 0.0][:2]
    table: dict[str, Any] = {
        "": lambda: y,
        "Relu": lambda: torch.relu(y),
        "Sigmoid": lambda: torch.sigmoid(y),
        "Tanh": lambda: torch.tanh(y),
        "LeakyRelu": lambda: F.leaky_relu(y, a),
        "Clip": lambda: torch.clamp(y, a, b),
        "HardSigmoid": lambda: torch.clamp(a * y + b, 0.0, 1.0),
    }
    if kind not in table:
        raise NotImplementedError(f"fused activation {kind}")
    result: Tensor = table[kind]()
    return result


@op("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Transposed convolution; pads crop the full result, which serves every padding mode."""
    rank = x.dim() - 2
    strides = list(node.get("strides") or [1] * rank)
    dilations = list(node.get("dilations") or [1] * rank)
    extra = list(node.get("output_padding") or [0] * rank)
    full = _TRANSPOSE[rank](x, w, b, strides, 0, 0, node.get("group", 1), dilations)
    pads = list(node.get("pads") or [0] * (2 * rank))
    wanted = node.get("output_shape")
    mode = node.get("auto_pad", "NOTSET")
    if wanted is not None or mode in ("SAME_UPPER", "SAME_LOWER"):
        sizes = wanted or [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        pads = [0] * (2 * rank)
        for i, size in enumerate(sizes[-rank:]):
            total = full.shape[2 + i] + extra[i] - size
            low = total // 2 if mode == "SAME_UPPER" else total - total // 2
            low = total // 2 if mode == "NOTSET" else low
            pads[i], pads[rank + i] = low, total - low
    crop = [-p for p in pads]
    for i in range(rank):
        crop[rank + i] += extra[i]
    return _pad_with_bias(full, crop, b)


def _pad_with_bias(y: Tensor, pads: list[int], b: Tensor | None) -> Tensor:
    """Crop; where output padding adds positions they hold the bias alone."""
    if b is None or max(pads) <= 0:
        return pad_spatial(y, pads)
    shift = b.reshape(1, -1, *([1] * (y.dim() - 2)))
    return pad_spatial(y - shift, pads) + shift
