"""Quantized arithmetic: integers held as floats, gradients straight through the rounding.

The straight-through estimator is Bengio et al., 2013; as in Jacob et al., 2018, nothing flows where
the value saturates. What ONNX Runtime computes in integers is computed here in floats that hold
the same integers, so results differ by at most one step where a value lies between two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from auditor.twin.onnx.ops.convolution import convolve
from auditor.twin.onnx.ops.elementwise import straight_through
from auditor.twin.onnx.registry import Node, op

_RANGES = {
    "INT8": (-128, 127),
    "UINT8": (0, 255),
    "INT16": (-32768, 32767),
    "UINT16": (0, 65535),
    "INT4": (-8, 7),
    "UINT4": (0, 15),
    "INT2": (-2, 1),
    "UINT2": (0, 3),
    "INT32": (-(2**31), 2**31 - 1),
}


def _along(value: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """`value`, a scalar, one per index of `axis`, or one per block, shaped to meet `x`."""
    value = value if value.dim() == 0 else value.to(x.device)
    if value.numel() == 1 and value.dim() <= 1:
        return value.reshape(())
    if value.dim() == 1:
        shape = [1] * x.dim()
        shape[axis] = -1
        return value.reshape(shape)
    if block:
        return value.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    return value


def quantize(x: Tensor, scale: Tensor, zero: Tensor | float, kind: str) -> Tensor:
    """Nearest integer of the range of `kind`; the gradient stops where it saturates."""
    if kind not in _RANGES:
        raise NotImplementedError(f"quantization to {kind}")
    low, high = _RANGES[kind]
    steps = x / scale
    return torch.clamp(straight_through(torch.round(steps), steps) + zero, low, high)


def _kind(node: Node, at: int) -> str:
    """Type of the zero point, input number `at`, which decides the integer range."""
    declared = node.dtypes[at] if at < len(node.dtypes) else None
    return declared or node.get("output_dtype") or "UINT8"


@op("QuantizeLinear", "com.microsoft::QuantizeLinear", gradient=False)
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Quantize per tensor, per channel or per block."""
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    offset = 0.0 if zero is None else _along(zero.to(x.dtype), x, axis, block)
    return quantize(x, _along(scale, x, axis, block), offset, _kind(node, 2))


@op("DequantizeLinear", "com.microsoft::DequantizeLinear")
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Back to real numbers."""
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    x = x.to(scale.dtype)
    if zero is not None:
        x = x - _along(zero.to(scale.dtype), x, axis, block)
    return x * _along(scale, x, axis, block)


@op("DynamicQuantizeLinear", gradient=False)
def dynamic_quantize_linear(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """8-bit quantization by the range of the tensor at hand."""
    high, low = x.detach().amax().clamp(min=0.0), x.detach().amin().clamp(max=0.0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / scale), 0, 255)
    steps = x / scale + zero  # the range is the tensor's own: nothing saturates
    return straight_through(quantize(x, scale, zero, "UINT8"), steps), scale, zero


def _centred(x: Tensor, zero: Tensor | None, like: torch.dtype, axis: int | None = None) -> Tensor:
    x = x.to(like)
    if zero is None:
        return x
    zero = zero.to(device=x.device, dtype=like)
    if axis is not None and zero.dim() == 1 and zero.numel() > 1:
        shape = [1] * x.dim()
        shape[axis] = -1
        zero = zero.reshape(shape)
    return x - (zero.reshape(()) if zero.numel() == 1 else zero)


@op("MatMulInteger")
def matmul_integer(
    node: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Product of 8-bit matrices after subtracting their zero points."""
    rows = None if a_zero is None or a_zero.dim() != 1 else a.dim() - 2
    return torch.matmul(
        _centred(a, a_zero, node.dtype, rows), _centred(b, b_zero, node.dtype, b.dim() - 1)
    )


@op("ConvInteger")
def conv_integer(
    node: Node, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """Convolution of 8-bit tensors after subtracting their zero points."""
    return convolve(node, _centred(x, x_zero, node.dtype), _centred(w, w_zero, node.dtype, 0))


@op("QLinearConv", gradient=False)
def qlinear_conv(
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor | None = None,
) -> Tensor:
    """Quantized convolution; the weights may have one scale per output channel."""
    dtype = x_scale.dtype
    bias = None if b is None else b.to(device=x.device, dtype=dtype)
    y = convolve(node, _centred(x, x_zero, dtype), _centred(w, w_zero, dtype, 0), bias)
    gain = (x_scale * w_scale / y_scale).reshape(-1)
    gain = gain.reshape(1, -1, *([1] * (y.dim() - 2))) if gain.numel() > 1 else gain
    return quantize(y * gain, torch.ones((), dtype=dtype), y_zero.to(dtype), _kind(node, 7))


@op("QLinearMatMul", gradient=False)
def qlinear_matmul(
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Quantized matrix product."""
    dtype = a_scale.dtype
    y = torch.matmul(_centred(a, a_zero, dtype), _centred(b, b_zero, dtype, b.dim() - 1))
    y = y * (a_scale * b_scale / y_scale)
    return quantize(y, torch.ones((), dtype=dtype), y_zero.to(dtype), _kind(node, 7))


@op("com.microsoft::QGemm", gradient=False)
def qgemm(
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Quantized Gemm; without an output scale the result is real."""
    dtype = a_scale.dtype
    columns = 0 if node.get("transB", 0) else 1
    left = _centred(a, a_zero, dtype)
    right = _centred(b, b_zero, dtype, columns)
    left = left.t() if node.get("transA", 0) else left
    y: Tensor = left @ (right.t() if node.get("transB", 0) else right)
    y = y if c is None else y + c.to(device=y.device, dtype=dtype)
    y = y * (node.get("alpha", 1.0) * a_scale * b_scale)
    if y_scale is None or y_zero is None:
        return y
    return quantize(y, y_scale, y_zero.to(dtype), _kind(node, 8))


def _real(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    return _centred(x, zero, scale.dtype) * scale


@op("com.microsoft::QLinearAdd", "com.microsoft::QLinearMul", gradient=False)
def qlinear_binary(
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Quantized sum or product."""
    left, right = _real(a, a_scale, a_zero), _real(b, b_scale, b_zero)
    y = left + right if node.op.endswith("Add") else left * right
    return quantize(y, y_scale, 0.0 if y_zero is None else y_zero.to(y.dtype), _kind(node, 7))


@op(
    "com.microsoft::QLinearSigmoid",
    "com.microsoft::QLinearLeakyRelu",
    "com.microsoft::QLinearGlobalAveragePool",
    "com.microsoft::QLinearAveragePool",
    "com.microsoft::QLinearSoftmax",
    gradient=False,
)
def qlinear_unary(
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
) -> Tensor:
    """A real operator between dequantizing and quantizing."""
    from auditor.twin.onnx.registry import OPERATORS

    if node.get("channels_last", 0):
        raise NotImplementedError(f"{node.op} with channels last")
    real = OPERATORS[node.op.removeprefix("com.microsoft::QLinear")](
        node, _real(x, x_scale, x_zero)
    )
    assert isinstance(real, Tensor)
    zero = 0.0 if y_zero is None else y_zero.to(real.dtype)
    return quantize(real, y_scale, zero, _kind(node, 4))


@op("com.microsoft::QLinearConcat", gradient=False)
def qlinear_concat(node: Node, y_scale: Tensor, y_zero: Tensor, *parts: Tensor) -> Tensor:
    """Quantized concatenation: each part brings its own scale and zero point."""
    real = [_real(parts[i], parts[i + 1], parts[i + 2]) for i in range(0, len(parts) - 2, 3)]
    joined = torch.cat(real, node.get("axis", 1))
    return quantize(joined, y_scale, y_zero.to(joined.dtype), _kind(node, 1))
