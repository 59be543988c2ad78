"""Normalizations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.twin.onnx.registry import Node, Result, op


@op("BatchNormalization")
def batch_norm(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Result:
    """Batch normalization by stored statistics, or by the batch's own in training mode."""
    eps = node.get("epsilon", 1e-5)
    # Before operator set 14 there was no attribute: extra outputs asked for training mode.
    by_outputs = node.opset < 14 and node.outputs > 1 and not node.get("is_test", 0)
    if node.get("training_mode", by_outputs):
        y = F.batch_norm(x, None, None, scale, bias, True, 0.0, eps)
    elif mean.requires_grad or var.requires_grad:  # torch gives these no gradient
        shape = (1, -1, *([1] * (x.dim() - 2)))
        gain = scale / torch.sqrt(var + eps)
        y = x * gain.reshape(shape) + (bias - mean * gain).reshape(shape)
    else:
        y = F.batch_norm(x, mean, var, scale, bias, False, 0.0, eps)
    return y if node.outputs == 1 else (y, *([None] * (node.outputs - 1)))


@op("InstanceNormalization")
def instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalization of each channel of each sample."""
    axes = tuple(range(2, x.dim()))
    shape = (1, -1, *([1] * len(axes)))
    y = _standardize(x, axes, node.get("epsilon", 1e-5))
    return y * scale.reshape(shape) + bias.reshape(shape)


def _standardize(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)


@op("LayerNormalization")
def layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Result:
    """Normalization over the last axes (Ba et al., 2016)."""
    axis, eps = node.get("axis", -1) % x.dim(), node.get("epsilon", 1e-5)
    shape = x.shape[axis:]
    if node.outputs == 1 and scale.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, shape, scale, bias, eps)
    axes = tuple(range(axis, x.dim()))
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + eps)
    y = (x - mean) * inverse * scale
    y = y if bias is None else y + bias
    return (y, mean, inverse)[: node.outputs] if node.outputs > 1 else y


@op("RMSNormalization", "SimplifiedLayerNormalization")
def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    """Division by the root mean square (Zhang and Sennrich, 2019)."""
    axes = tuple(range(node.get("axis", -1) % x.dim(), x.dim()))
    inverse = torch.rsqrt(x.square().mean(axes, keepdim=True) + node.get("epsilon", 1e-5))
    return x * inverse * scale


@op("com.microsoft::SkipLayerNormalization")
def skip_layer_norm(
    node: Node,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> Result:
    """Layer normalization of a sum; the sum is the fourth output."""
    total = x + skip if bias is None else x + skip + bias
    y = F.layer_norm(total, gamma.shape, gamma, beta, node.get("epsilon", 1e-5))
    return y if node.outputs == 1 else (y, None, None, total)[: node.outputs]


@op("GroupNormalization")
def group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalization over groups of channels; scale is per group before operator set 21."""
    groups, channels = node.get("num_groups"), x.shape[1]
    if scale.shape[0] == groups and node.opset < 21:
        scale = scale.repeat_interleave(channels // groups)
        bias = bias.repeat_interleave(channels // groups)
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@op("LRN")
def local_response_norm(node: Node, x: Tensor) -> Tensor:
    """Division by the energy of neighbouring channels (Krizhevsky et al., 2012)."""
    size = node.get("size")
    alpha, beta, k = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    before = (size - 1) // 2
    squares = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
    squares = F.pad(squares, (0, 0, before, size - 1 - before))
    energy = F.avg_pool2d(squares, (size, 1), 1).reshape(x.shape)
    y: Tensor = x / (k + alpha * energy) ** beta
    return y


@op("MeanVarianceNormalization")
def mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    """Zero mean, unit variance over the axes."""
    axes = tuple(node.get("axes") or (0, 2, 3))
    centred = x - x.mean(axes, keepdim=True)
    return centred / (torch.sqrt(centred.square().mean(axes, keepdim=True)) + 1e-9)


@op("LpNormalization")
def lp_norm(node: Node, x: Tensor) -> Tensor:
    """Division by the p-norm along an axis."""
    axis = node.get("axis", -1)
    norm = torch.linalg.vector_norm(x, ord=node.get("p", 2), dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)
