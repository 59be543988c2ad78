"""What the interpreter does itself instead of asking torch's operator table.

Containers live in Python (torch would copy a list on every call, so ``append`` would be lost),
queries about gradients answer as if gradients were wanted (so that attention takes its
differentiable path), and the two fused transformer operators that have no derivative are spelled
out.
"""

from __future__ import annotations

import operator as py
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from auditor.twin.interface import NoTwin


def _list(*items: Any) -> list[Any]:
    return list(items)


def _tuple(*items: Any) -> tuple[Any, ...]:
    return items


def _dict(*items: Any) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _same(value: Any, *_: Any) -> Any:
    return value


def _nothing(*_: Any) -> None:
    return None


def _raise(message: Any, *_: Any) -> None:
    raise RuntimeError(str(message))


def _slice(value: Any, start: Any, end: Any, step: Any = 1) -> Any:
    return value[start:end:step]


def _append(values: list[Any], item: Any) -> list[Any]:
    values.append(item)
    return values


def _extend(values: list[Any], more: list[Any]) -> list[Any]:
    values.extend(more)
    return values


def _set(values: Any, key: Any, item: Any) -> Any:
    values[key] = item
    return values


def _delete(values: Any, key: Any) -> None:
    del values[key]


def _get(values: dict[Any, Any], key: Any, default: Any = None) -> Any:
    return values.get(key, default)


def _format(template: str, *values: Any) -> str:
    return template.format(*values)


def _view(x: Tensor, size: list[int]) -> Tensor:
    # `reshape` also takes a non-contiguous x, where `view` raises: the values are the same.
    return x.reshape(size)


def batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *rest: Any
) -> Tensor:
    """`torch.batch_norm` that leaves the running statistics it is given as they are."""
    if training:  # a trace made in training mode: keep the shared statistics as they are
        mean = None if mean is None else mean.clone()
        var = None if var is None else var.clone()
    return torch.batch_norm(x, weight, bias, mean, var, training, *rest)


def _attention(
    x: Tensor, width: int, heads: int, weights: tuple[Any, Any, Any, Any], mask: Any
) -> Tensor:
    in_weight, in_bias, out_weight, out_bias = weights
    n, t, _ = x.shape
    parts = torch.nn.functional.linear(x, in_weight, in_bias).chunk(3, -1)
    q, k, v = (p.reshape(n, t, heads, width // heads).transpose(1, 2) for p in parts)
    if mask is not None and mask.dim() == 2 and mask.shape == (n, t) and n != t:
        mask = mask[:, None, None, :]
    keep = None if mask is None else (~mask if mask.dtype == torch.bool else mask)
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    return torch.nn.functional.linear(y.transpose(1, 2).reshape(n, t, width), out_weight, out_bias)


def _encoder_layer(
    src: Tensor, width: int, heads: int,
    w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor,
    gelu: bool, norm_first: bool, eps: float,
    g1: Tensor, h1: Tensor, g2: Tensor, h2: Tensor,
    f1: Tensor, c1: Tensor, f2: Tensor, c2: Tensor,
    mask: Any = None, mask_type: Any = None,
) -> Tensor:  # fmt: skip
    """``aten::_transformer_encoder_layer_fwd`` (torch.nn.TransformerEncoderLayer's fast path)."""
    if mask is not None:
        raise NoTwin("a fused transformer layer with a mask (aten::_transformer_encoder_layer_fwd)")
    functional = torch.nn.functional
    act = functional.gelu if gelu else functional.relu
    weights = (w_in, b_in, w_out, b_out)

    def feed(x: Tensor) -> Tensor:
        return functional.linear(act(functional.linear(x, f1, c1)), f2, c2)

    def norm(x: Tensor, g: Tensor, h: Tensor) -> Tensor:
        return functional.layer_norm(x, (width,), g, h, eps)

    if norm_first:
        x = src + _attention(norm(src, g1, h1), width, heads, weights, None)
        return x + feed(norm(x, g2, h2))
    x = norm(src + _attention(src, width, heads, weights, None), g1, h1)
    return norm(x + feed(x), g2, h2)


def _native_attention(
    q: Tensor, k: Tensor, v: Tensor, width: int, heads: int,
    w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor,
    mask: Any = None, need_weights: bool = True, *_: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """``aten::_native_multi_head_attention`` where query, key and value are one tensor."""
    same = q.data_ptr() == k.data_ptr() == v.data_ptr() and q.shape == k.shape == v.shape
    if not same or need_weights or mask is not None:
        raise NoTwin("a fused attention with masks, weights or cross inputs")
    return _attention(q, width, heads, (w_in, b_in, w_out, b_out), None), None


EXACT: Mapping[str, Callable[..., Any]] = {
    "aten::slice.t": _slice,
    "aten::slice.str": _slice,
    "aten::append.t": _append,
    "aten::extend.t": _extend,
    "aten::add.t": py.add,
    "aten::add_.t": _extend,
    "aten::mul.left_t": py.mul,
    "aten::mul.right_": py.mul,
    "aten::copy.t": list,
    "aten::reverse.t": lambda values: values.reverse(),
    "aten::insert.t": lambda values, i, item: values.insert(i, item),
    "aten::pop.t": lambda values, i=-1: values.pop(i),
    "aten::clear.t": lambda values: values.clear(),
    "aten::view": _view,
    "aten::batch_norm": batch_norm,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::_native_multi_head_attention": _native_attention,
}
"""Run here: this overload (``kind.overload``, or ``kind`` for the one without a name) only."""

ANY_OVERLOAD: Mapping[str, Callable[..., Any]] = {
    "prim::ListConstruct": _list,
    "prim::TupleConstruct": _tuple,
    "prim::DictConstruct": _dict,
    "prim::ListUnpack": tuple,
    "prim::TupleUnpack": tuple,
    "prim::TupleIndex": py.getitem,
    "prim::unchecked_cast": _same,
    "prim::unchecked_unwrap_optional": _same,
    "prim::Uninitialized": _nothing,
    "prim::RaiseException": _raise,
    "prim::Print": _nothing,
    "prim::requires_grad": lambda x: True,
    "prim::data": _same,
    "aten::_unwrap_optional": _same,
    "aten::requires_grad_": _same,
    "aten::is_grad_enabled": lambda: True,
    "aten::warn": _nothing,
    "aten::format": _format,
    "aten::size": lambda x, *dim: x.size(*dim) if dim else list(x.shape),
    "aten::dim": lambda x: x.dim(),
    "aten::len": len,
    "aten::__is__": py.is_,
    "aten::__isnot__": py.is_not,
    "aten::__not__": py.not_,
    "aten::__getitem__": py.getitem,
    "aten::__contains__": py.contains,
    "aten::_set_item": _set,
    "aten::Delete": _delete,
    "aten::list": list,
    "aten::keys": list,
    "aten::items": lambda d: list(d.items()),
    "aten::get": _get,
}
"""Run here whatever the overload."""

REFUSED = frozenset(
    {
        "aten::save",
        "aten::load",
        "aten::from_file",
        "aten::manual_seed",
        "aten::set_data",
        "aten::backward",
        "prim::fork",
        "prim::CreateObject",
        "prim::CallMethod",
        "prim::CallFunction",
        "prim::PythonOp",
        "prim::isinstance",
        "prim::rpc_async",
        "prim::Enter",
        "prim::Exit",
    }
)
"""Refused by name: side effects on the machine, or constructs the interpreter does not model."""
