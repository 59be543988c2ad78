"""Reductions; axes come from an attribute or, later, from an input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from auditor.twin.onnx.registry import Node, Result, op

Reducer = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _register(name: str, function: Reducer) -> None:
    def run(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = node.ints("axes", axes)
        if not chosen:
            if node.get("noop_with_empty_axes", 0):
                # Reducing over nothing still applies the elementwise part (squares, logarithms).
                return function(x.unsqueeze(0), (0,), False)
            chosen = list(range(x.dim()))
        keep = bool(node.get("keepdims", 1))
        return function(x, tuple(chosen), keep) if x.dim() else function(x.reshape(1), (0,), False)

    op(name)(run)


_register("ReduceSum", lambda x, axes, keep: x.sum(axes, keepdim=keep))
_register("ReduceMean", lambda x, axes, keep: x.mean(axes, keepdim=keep))
_register("ReduceMax", lambda x, axes, keep: x.amax(axes, keepdim=keep))
_register("ReduceMin", lambda x, axes, keep: x.amin(axes, keepdim=keep))
_register("ReduceProd", _product)
_register("ReduceL1", lambda x, axes, keep: x.abs().sum(axes, keepdim=keep))
_register("ReduceL2", lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt())
_register("ReduceSumSquare", lambda x, axes, keep: x.square().sum(axes, keepdim=keep))
_register("ReduceLogSum", lambda x, axes, keep: x.sum(axes, keepdim=keep).log())
_register("ReduceLogSumExp", lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep))


@op("ArgMax", "ArgMin", gradient=False)
def arg_extreme(node: Node, x: Tensor) -> Tensor:
    """Index of the first (or last) extreme value along an axis."""
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    signed = x if node.op == "ArgMax" else -x
    if node.get("select_last_index", 0):
        last: Tensor = x.shape[axis] - 1 - signed.flip(axis).argmax(axis, keepdim=keep)
        return last
    return signed.argmax(axis, keepdim=keep)


@op("CumSum")
def cumulative_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    """Running sum along an axis."""
    at = int(axis)
    x = x.flip(at) if node.get("reverse", 0) else x
    y = x.cumsum(at)
    y = y - x if node.get("exclusive", 0) else y
    return y.flip(at) if node.get("reverse", 0) else y


@op("TopK")
def top_k(node: Node, x: Tensor, k: Tensor | None = None) -> Result:
    """The k largest (or smallest) values along an axis, and where they are."""
    count = node.ints("k", k)
    count = count[0] if isinstance(count, list) else count
    return tuple(
        torch.topk(
            x,
            count,
            node.get("axis", -1),
            largest=bool(node.get("largest", 1)),
            sorted=bool(node.get("sorted", 1)),
        )
    )
