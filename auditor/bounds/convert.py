"""ATen operators as bound operators. One small function an operator, found by name.

A converter gets the call's arguments with values (non-constant inputs) as `Slot` and constants as
float64 tensors or plain Python, and returns the operator and the slots it reads. Anything not
listed here, or used in a way that is not listed, is `Unsupported` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from auditor.bounds.graph import Affine, Nonlinear, Unsupported
from auditor.bounds.nonlinear import SIGMOID, TANH, MaxPool, Relu


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands for the value of node `position`."""

    position: int


Step: TypeAlias = tuple[Affine | Nonlinear, tuple[Slot, ...]]
Converter: TypeAlias = Callable[..., Step]
CONVERTERS: dict[str, Converter] = {}


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Register a converter under ATen names such as ``relu.default``."""

    def register(function: Converter) -> Converter:
        for name in names:
            CONVERTERS[f"aten.{name}"] = function
        return function

    return register


def _only_slot(value: Any, what: str) -> Slot:
    if not isinstance(value, Slot):
        raise Unsupported(f"{what} of a constant by a value")
    return value


def _constants(values: Sequence[Any], what: str) -> None:
    if any(isinstance(value, Slot) for value in values):
        raise Unsupported(f"{what} of two values that depend on the image")


def _same(coefficients: Tensor, shape: torch.Size) -> Tensor:
    """Transpose of a step that moves no element: reshape."""
    return coefficients.reshape(-1, *shape)


def _scaled(factor: Any) -> Callable[[Tensor, torch.Size], Tensor]:
    """Transpose of an elementwise product; a value that was broadcast gets the sum back."""

    def pull(coefficients: Tensor, shape: torch.Size) -> Tensor:
        product: Tensor = coefficients * factor
        return product.sum_to_size(coefficients.shape[:1] + shape)

    return pull


# --- moving and averaging elements: no negative coefficients ------------------------------------

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
        slot = _only_slot(value, packet)
        _constants([*rest, *named.values()], packet)
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
    return Affine(lambda x: x.clone(), None, _same), (_only_slot(value, "copy"),)


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


# --- arithmetic -----------------------------------------------------------------------------------


def _sum(a: Any, b: Any, sign_a: float, sign_b: float) -> Step:
    """``sign_a a + sign_b b``; either may be constant."""
    if isinstance(a, Slot) and isinstance(b, Slot):
        return Affine(
            lambda x, y: sign_a * x + sign_b * y, lambda x, y: abs(sign_a) * x + abs(sign_b) * y
        ), (a, b)
    if isinstance(a, Slot):
        shift = sign_b * b
        return Affine(
            lambda x: sign_a * x + shift, lambda x: abs(sign_a) * x + 0 * shift, _scaled(sign_a)
        ), (a,)
    shift = sign_a * a
    return Affine(
        lambda y: sign_b * y + shift, lambda y: abs(sign_b) * y + 0 * shift, _scaled(sign_b)
    ), (b,)


@converts("add.Tensor", "add.Scalar", "add_.Tensor")
def _add(a: Any, b: Any, alpha: float = 1) -> Step:
    return _sum(a, b, 1.0, float(alpha))


@converts("sub.Tensor", "sub.Scalar")
def _sub(a: Any, b: Any, alpha: float = 1) -> Step:
    return _sum(a, b, 1.0, -float(alpha))


@converts("rsub.Scalar", "rsub.Tensor")
def _rsub(a: Any, b: Any, alpha: float = 1) -> Step:
    return _sum(b, a, 1.0, -float(alpha))


@converts("neg.default")
def _neg(a: Any) -> Step:
    return Affine(lambda x: -x, lambda x: x, _scaled(-1.0)), (_only_slot(a, "neg"),)


@converts("mul.Tensor", "mul.Scalar")
def _mul(a: Any, b: Any) -> Step:
    if isinstance(a, Slot) and isinstance(b, Slot):
        raise Unsupported("product of two values that depend on the image")
    slot, factor = (a, b) if isinstance(a, Slot) else (b, a)
    return Affine(lambda x: x * factor, lambda x: x * abs(factor), _scaled(factor)), (slot,)


@converts("div.Tensor", "div.Scalar")
def _div(a: Any, b: Any) -> Step:
    slot = _only_slot(a, "division")
    _constants([b], "division")
    return Affine(lambda x: x / b, lambda x: x / abs(b), _scaled(1 / b)), (slot,)


# --- layers ---------------------------------------------------------------------------------------


@converts("mm.default", "matmul.default", "bmm.default")
def _mm(a: Any, b: Any) -> Step:
    if isinstance(a, Slot) and isinstance(b, Slot):
        raise Unsupported("product of two values that depend on the image")
    if isinstance(a, Slot) and b.ndim == 2:
        return Affine(lambda x: x @ b, lambda x: x @ b.abs(), lambda c, _: c @ b.T), (a,)
    if isinstance(a, Slot):
        return Affine(lambda x: x @ b, lambda x: x @ b.abs()), (a,)
    return Affine(lambda x: a @ x, lambda x: a.abs() @ x), (_only_slot(b, "product"),)


@converts("addmm.default")
def _addmm(bias: Any, a: Any, b: Any, beta: float = 1, alpha: float = 1) -> Step:
    _constants([bias, b], "addmm")
    slot = _only_slot(a, "addmm")
    weight, shift = alpha * b, beta * bias
    return Affine(
        lambda x: x @ weight + shift, lambda x: x @ weight.abs(), lambda c, _: c @ weight.T
    ), (slot,)


@converts("linear.default")
def _linear(value: Any, weight: Any, bias: Any = None) -> Step:
    _constants([weight, bias], "linear")
    shift = 0.0 if bias is None else bias
    return Affine(
        lambda x: x @ weight.T + shift, lambda x: x @ weight.abs().T, lambda c, _: c @ weight
    ), (_only_slot(value, "linear"),)


@converts("convolution.default")
def _convolution(value: Any, weight: Any, bias: Any, *geometry: Any) -> Step:
    _constants([weight, bias], "convolution")

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
        _only_slot(value, "convolution"),
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
    _constants([weight, bias, mean, variance], "batch normalisation")
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
    ), (_only_slot(value, "batch normalisation"),)


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


# --- nonlinearities ----------------------------------------------------------------------------


@converts("relu.default", "relu_.default")
def _relu(value: Any) -> Step:
    return Relu(), (_only_slot(value, "relu"),)


@converts("leaky_relu.default")
def _leaky(value: Any, slope: float = 0.01) -> Step:
    if not 0 <= slope < 1:
        raise Unsupported(f"leaky ReLU of slope {slope}")
    return Relu(float(slope)), (_only_slot(value, "leaky relu"),)


@converts("sigmoid.default")
def _sigmoid(value: Any) -> Step:
    return SIGMOID, (_only_slot(value, "sigmoid"),)


@converts("tanh.default")
def _tanh(value: Any) -> Step:
    return TANH, (_only_slot(value, "tanh"),)


def _pair(value: Sequence[int] | int) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))


@converts("max_pool2d_with_indices.default", "max_pool2d.default")
def _max_pool(
    value: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> Step:
    size = _pair(kernel)
    step = _pair(stride) if stride else size
    pool = MaxPool(size, step, _pair(padding), _pair(dilation), bool(ceil))
    return pool, (_only_slot(value, "max pooling"),)
