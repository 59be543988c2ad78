"""Gather and scatter."""

from __future__ import annotations

import torch
from torch import Tensor

from auditor.twin.onnx.registry import Node, op


def _positive(index: Tensor, size: int, device: torch.device) -> Tensor:
    index = index.to(device=device, dtype=torch.int64)
    return torch.where(index < 0, index + size, index)


@op("Gather")
def gather(node: Node, x: Tensor, index: Tensor) -> Tensor:
    """Entries of one axis, in the shape of `index`."""
    axis = node.get("axis", 0) % x.dim()
    if index.dim() == 0 and not x.requires_grad and x.dim() == 1:
        return x[int(index)]
    at = _positive(index, x.shape[axis], x.device)
    picked = x.index_select(axis, at.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


@op("GatherElements")
def gather_elements(node: Node, x: Tensor, index: Tensor) -> Tensor:
    """Entry by entry along one axis."""
    axis = node.get("axis", 0)
    return x.gather(axis, _positive(index, x.shape[axis], x.device))


@op("GatherND")
def gather_nd(node: Node, x: Tensor, index: Tensor) -> Tensor:
    """Entries (or slices) at index tuples."""
    batch = node.get("batch_dims", 0)
    index = index.to(x.device)
    depth = index.shape[-1]
    parts = [_positive(index[..., i], x.shape[batch + i], x.device) for i in range(depth)]
    lead = []
    for axis in range(batch):
        shape = [1] * (index.dim() - 1)
        shape[axis] = x.shape[axis]
        lead.append(torch.arange(x.shape[axis], device=x.device).reshape(shape))
    return x[(*lead, *parts)]


@op("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """`x` with entries replaced (or combined) along one axis."""
    axis = node.get("axis", 0)
    at = _positive(index, x.shape[axis], x.device)
    how = node.get("reduction", "none")
    if how == "none":
        return x.scatter(axis, at, updates)
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return x.scatter_reduce(axis, at, updates, names[how])


@op("ScatterND")
def scatter_nd(node: Node, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """`x` with slices at index tuples replaced (or added to)."""
    how = node.get("reduction", "none")
    if how not in ("none", "add"):
        raise NotImplementedError(f"ScatterND with reduction {how}")
    index = index.to(x.device)
    at = tuple(_positive(index[..., i], x.shape[i], x.device) for i in range(index.shape[-1]))
    return x.index_put(at, updates.to(x.dtype), accumulate=how == "add")


@op("OneHot")
def one_hot(node: Node, index: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """`values[1]` where the index is, `values[0]` elsewhere."""
    count, axis = int(depth.reshape(-1)[0]), node.get("axis", -1)
    at = _positive(index, count, index.device).unsqueeze(axis)
    shape = [1] * at.dim()
    shape[axis] = count
    hot = at == torch.arange(count, device=at.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


@op("NonZero", gradient=False)
def non_zero(node: Node, x: Tensor) -> Tensor:
    """Indices of the entries that are not zero."""
    return torch.nonzero(x).t()


@op("Compress")
def compress(node: Node, x: Tensor, condition: Tensor) -> Tensor:
    """Entries whose condition holds, along an axis or of the flattened tensor."""
    axis = node.get("axis")
    x = x.reshape(-1) if axis is None else x
    at = torch.nonzero(condition).reshape(-1).to(x.device)
    return x.index_select(0 if axis is None else axis, at)
