"""What is not linear: squashing functions and maximum pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from auditor.bounds.convert import (
    Step,
    converts,
    only_slot,
)
from auditor.bounds.graph import Unsupported
from auditor.bounds.nonlinear import SIGMOID, TANH, MaxPool, Relu


@converts("relu.default", "relu_.default")
def _relu(value: Any) -> Step:
    return Relu(), (only_slot(value, "relu"),)


@converts("leaky_relu.default")
def _leaky(value: Any, slope: float = 0.01) -> Step:
    if not 0 <= slope < 1:
        raise Unsupported(f"leaky ReLU of slope {slope}")
    return Relu(float(slope)), (only_slot(value, "leaky relu"),)


@converts("sigmoid.default")
def _sigmoid(value: Any) -> Step:
    return SIGMOID, (only_slot(value, "sigmoid"),)


@converts("tanh.default")
def _tanh(value: Any) -> Step:
    return TANH, (only_slot(value, "tanh"),)


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
    return pool, (only_slot(value, "max pooling"),)
