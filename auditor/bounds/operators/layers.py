"""Layers with stored weights: products, convolutions, batch normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from auditor.bounds.convert import (
    Slot,
    Step,
    constants,
    converts,
    only_slot,
)
from auditor.bounds.graph import Affine, Unsupported


@converts("mm.default", "matmul.default", "bmm.default")
def _mm(a: Any, b: Any) -> Step:
    if isinstance(a, Slot) and isinstance(b, Slot):
        raise Unsupported("product of two values that depend on the image")
    if isinstance(a, Slot) and b.ndim == 2:
        return Affine(lambda x: x @ b, lambda x: x @ b.abs(), lambda c, _: c @ b.T), (a,)
    if isinstance(a, Slot):
        return Affine(lambda x: x @ b, lambda x: x @ b.abs()), (a,)
    return Affine(lambda x: a @ x, lambda x: a.abs() @ x), (only_slot(b, "product"),)


@converts("addmm.default")
def _addmm(bias: Any, a: Any, b: Any, beta: float = 1, alpha: float = 1) -> Step:
    constants([bias, b], "addmm")
    slot = only_slot(a, "addmm")
    weight, shift = alpha * b, beta * bias
    return Affine(
        lambda x: x @ weight + shift, lambda x: x @ weight.abs(), lambda c, _: c @ weight.T
    ), (slot,)


@converts("linear.default")
def _linear(value: Any, weight: Any, bias: Any = None) -> Step:
    constants([weight, bias], "linear")
    shift = 0.0 if bias is None else bias
    return Affine(
        lambda x: x @ weight.T + shift, lambda x: x @ weight.abs().T, lambda c, _: c @ weight
    ), (only_slot(value, "linear"),)


@converts("convolution.default")
def _convolution(value: Any, weight: Any, bias: Any, *geometry: Any) -> Step:
    constants([weight, bias], "convolution")

    def run(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return torch.convolution(x, w, b, *geometry)

    def pull(coefficients: Tensor, shape: torch.Size) -> Tensor:
        flat = coefficients.flatten(0, 1)
        like = weight.new_zeros(1).expand(len(flat), *shape[1:])
        back: Tensor = torch.ops.aten.convolution_backward(
            flat, like, weight, None, *geometry, [True, False, False]
        )[0]
        return back.reshape(-1, *shape)

    return Affine(lambda x: run(x, weight, bias), lambda x: run(x, weight.abs(), None), pull), (
        only_slot(value, "convolution"),
    )


@converts("_convolution.default")
def _traced_convolution(value: Any, weight: Any, bias: Any, *geometry: Any) -> Step:
    """What ``torch.jit.trace`` writes: the six numbers, then flags of the backend."""
    return _convolution(value, weight, bias, *geometry[:6])


@converts("conv2d.default")
def _conv2d(
    value: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Step:
    return _convolution(
        value, weight, bias, list(stride), list(padding), list(dilation), False, [0, 0], groups
    )


def _normalise(value: Any, weight: Any, bias: Any, mean: Any, variance: Any, eps: float) -> Step:
    constants([weight, bias, mean, variance], "batch normalisation")
    if mean is None or variance is None:
        raise Unsupported("batch normalisation by the statistics of the batch")
    scale = 1 / torch.sqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale

    def along(vector: Tensor, x: Tensor) -> Tensor:
        return vector.reshape(1, -1, *[1] * (x.ndim - 2))

    def pull(coefficients: Tensor, shape: torch.Size) -> Tensor:
        return coefficients * scale.reshape(1, 1, -1, *[1] * (len(shape) - 2))

    return Affine(
        lambda x: x * along(scale, x) + along(shift, x), lambda x: x * along(scale.abs(), x), pull
    ), (only_slot(value, "batch normalisation"),)


@converts("native_batch_norm.default", "batch_norm.default")
def _batch_norm(
    value: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float,
    eps: float, *rest: Any,
) -> Step:  # fmt: skip
    if training:
        raise Unsupported("batch normalisation in training mode")
    return _normalise(value, weight, bias, mean, variance, eps)


@converts("_native_batch_norm_legit_no_training.default")
def _batch_norm_inference(
    value: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Step:
    return _normalise(value, weight, bias, mean, variance, eps)
