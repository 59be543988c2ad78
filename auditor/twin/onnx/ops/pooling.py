"""Pooling, with ONNX's rules for ceiling mode, padding and counting."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.twin.onnx.ops.convolution import pad_spatial, window
from auditor.twin.onnx.registry import Node, op

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _overhang(
    node: Node,
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
) -> list[int]:
    """Extra cells at the end of each axis so that ceiling mode's last window fits."""
    rank = len(kernel)
    extra = [0] * rank
    if not node.get("ceil_mode", 0):
        return extra
    for i in range(rank):
        size, reach = x.shape[2 + i], (kernel[i] - 1) * dilations[i] + 1
        room = size + pads[i] + pads[rank + i] - reach
        steps = -(-room // strides[i])
        if steps * strides[i] >= size + pads[i]:  # a window may not start in the end padding
            steps -= 1
        extra[i] = max(0, steps * strides[i] - room)
    return extra


@op("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Maximum over windows; padding never wins. Indices count over the whole tensor."""
    kernel = list(node.get("kernel_shape"))
    rank = len(kernel)
    strides, dilations, pads = window(node, x, kernel)
    extra = _overhang(node, x, kernel, strides, dilations, pads)
    simple = pads[:rank] == pads[rank:] and not any(extra)
    simple = simple and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    if node.outputs > 1:
        return _max_pool_with_indices(x, kernel, strides, dilations, pads, simple)
    if simple and rank == 2 and x.is_floating_point() and x.device.type == "cpu":
        return _fast(x, kernel, strides, pads[:rank], dilations)
    if simple:
        return _MAX[rank](x, kernel, strides, pads[:rank], dilations)
    ends = [p + e for p, e in zip(pads[rank:], extra, strict=True)]
    lowest = torch.finfo(x.dtype).min if x.is_floating_point() else torch.iinfo(x.dtype).min
    return _MAX[rank](pad_spatial(x, pads[:rank] + ends, lowest), kernel, strides, 0, dilations)


def _fast(
    x: Tensor, kernel: list[int], strides: list[int], pads: list[int], dilations: list[int]
) -> Tensor:
    """The same values; torch vectorises pooling only of floats whose channels lie side by side.

    Gradients flow through picking the winners, which is faster than torch's way back as well.
    """
    beside = x.detach().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        best, index = F.max_pool2d(beside, kernel, strides, pads, dilations, return_indices=True)
    if not x.requires_grad:
        return best.contiguous()
    return x.flatten(2).gather(2, index.flatten(2)).view(index.shape)


def _max_pool_with_indices(
    x: Tensor,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    simple: bool,
) -> tuple[Tensor, ...]:
    rank = len(kernel)
    if not simple:
        raise NotImplementedError("indices of a max pool with uneven padding")
    y, index = _MAX[rank](x, kernel, strides, pads[:rank], dilations, return_indices=True)
    plane = x[0, 0].numel()
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * plane
    return y, index + planes.reshape(x.shape[0], x.shape[1], *([1] * rank))


@op("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """Mean over windows, padding counted only with ``count_include_pad``."""
    kernel = list(node.get("kernel_shape"))
    rank = len(kernel)
    strides, dilations, pads = window(node, x, kernel)
    extra = _overhang(node, x, kernel, strides, dilations, pads)
    counted = bool(node.get("count_include_pad", 0))
    even = pads[:rank] == pads[rank:] and not any(extra) and set(dilations) == {1}
    if even and all(2 * p <= k for p, k in zip(pads, kernel, strict=False)):
        return _AVERAGE[rank](x, kernel, strides, pads[:rank], False, counted)
    tail = [0] * rank + extra
    inside = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    inside = pad_spatial(pad_spatial(inside, pads, 1.0 if counted else 0.0), tail)
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device)
    channels = x.shape[1]
    padded = pad_spatial(pad_spatial(x, pads), tail)
    total = _CONV[rank](
        padded, ones.expand(channels, 1, *kernel), None, strides, 0, dilations, channels
    )
    return total / _CONV[rank](inside, ones, None, strides, 0, dilations)


@op("LpPool")
def lp_pool(node: Node, x: Tensor) -> Tensor:
    """p-norm over windows."""
    kernel, p = list(node.get("kernel_shape")), node.get("p", 2)
    strides, dilations, pads = window(node, x, kernel)
    channels = x.shape[1]
    ones = torch.ones(channels, 1, *kernel, dtype=x.dtype, device=x.device)
    powers = pad_spatial(x.abs() ** p, pads)
    total = _CONV[len(kernel)](powers, ones, None, strides, 0, dilations, channels)
    y: Tensor = total ** (1.0 / p)
    return y


@op("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    """Mean over all positions."""
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    """Maximum over all positions."""
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


@op("GlobalLpPool")
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    """p-norm over all positions."""
    axes = tuple(range(2, x.dim()))
    y: Tensor = torch.linalg.vector_norm(x, ord=node.get("p", 2), dim=axes, keepdim=True)
    return y
