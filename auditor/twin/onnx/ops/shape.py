"""Constants, casts and changes of shape."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.twin.onnx.ops.elementwise import straight_through, together
from auditor.twin.onnx.registry import Node, Result, op

FLOATS = {"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"}


@op("Identity", "Dropout")
def identity(node: Node, x: Tensor, *rest: Any) -> Result:
    """`x` itself; dropout does nothing at inference (its mask output is all true)."""
    if node.outputs == 1:
        return x
    return x, torch.ones_like(x, dtype=torch.bool)


@op("Constant")
def constant(node: Node) -> Tensor:
    """The stored value, whichever attribute holds it."""
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        value = node.get(name)
        if value is not None:
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            return tensor.to(node.dtype) if tensor.is_floating_point() else tensor
    raise NotImplementedError("Constant of strings or sparse values")


@op("ConstantOfShape")
def constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    """A tensor filled with one value (0 by default)."""
    sizes, value = shape.tolist(), node.get("value")
    if math.prod(sizes) > 1 << 28:
        raise NotImplementedError(f"ConstantOfShape of {math.prod(sizes):,} values")
    if value is None:
        return torch.zeros(sizes, dtype=node.dtype, device=node.device)
    device = node.device if value.is_floating_point() else value.device
    return torch.full(sizes, value.reshape(-1)[0].item(), dtype=value.dtype, device=device)


@op("Range")
def range_(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Evenly spaced numbers."""
    count = max(0, math.ceil((limit.item() - start.item()) / delta.item()))
    if count > 1 << 28:
        raise NotImplementedError(f"Range of {count:,} values")
    return start + delta * torch.arange(count, dtype=start.dtype)


@op("EyeLike")
def eye_like(node: Node, x: Tensor) -> Tensor:
    """Ones on a diagonal, in the shape of `x`."""
    full = torch.ones(x.shape, dtype=node.dtype, device=x.device)
    return full.triu(node.get("k", 0)).tril(node.get("k", 0))


@op("Cast", "CastLike")
def cast(node: Node, x: Tensor, like: Tensor | None = None) -> Tensor:
    """Change of type; every float type becomes the twin's own, so half precision is lifted."""
    kind = node.get("to") if like is None else _kind_of(node, like)
    if kind in FLOATS:
        return x.to(node.dtype)
    if kind == "BOOL":
        return x != 0
    if x.is_floating_point() and kind in ("INT8", "UINT8", "INT16", "UINT16"):
        return straight_through(torch.trunc(x), x)
    return x.to(torch.int64)


def _kind_of(node: Node, like: Tensor) -> str:
    declared = node.dtypes[1] if len(node.dtypes) > 1 else None
    if declared is not None:
        return declared
    return "FLOAT" if like.is_floating_point() else "BOOL" if like.dtype == torch.bool else "INT64"


@op("Shape")
def shape_of(node: Node, x: Tensor) -> Tensor:
    """Sizes of the axes from `start` to `end`."""
    end = node.get("end")
    sizes = list(x.shape)[node.get("start", 0) : end if end is not None else None]
    return torch.tensor(sizes, dtype=torch.int64)


@op("Size")
def size_of(node: Node, x: Tensor) -> Tensor:
    """Number of elements."""
    return torch.tensor(x.numel(), dtype=torch.int64)


@op("Reshape")
def reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    """New shape; 0 keeps an axis unless ``allowzero``.

    ``auditor.batch`` marks shapes that hold a fixed batch size: the first size is then scaled to
    the batch at hand (see `auditor.twin.onnx.batch`).
    """
    sizes = node.ints("shape", shape)
    if not node.get("allowzero", 0) and 0 in sizes:
        sizes = [x.shape[i] if s == 0 else s for i, s in enumerate(sizes)]
    baked = node.get("auditor.batch")
    if baked is not None:
        sizes = _rebatch(x, sizes, baked)
    return x.reshape(sizes)


def _rebatch(x: Tensor, sizes: list[int], baked: int) -> list[int]:
    """`sizes` with the first one scaled from the baked-in batch size to that of `x`."""
    if not sizes or not x.dim() or sizes[0] <= 0:
        return sizes
    known = math.prod(s for s in sizes if s > 0)
    if -1 not in sizes:
        first = sizes[0] * x.numel() // max(known, 1)
        return [first, *sizes[1:]]
    if sizes[0] == baked and x.shape[0] % baked == 0:
        return [x.shape[0], *sizes[1:]]
    return sizes


@op("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    """Two axes: those before `axis`, and the rest."""
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@op("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    """Axes in another order, reversed by default."""
    return x.permute(node.get("perm") or list(reversed(range(x.dim()))))


@op("Squeeze")
def squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without axes of size one."""
    chosen = node.ints("axes", axes)
    if chosen is None:
        return x.squeeze()
    drop = {a % x.dim() for a in chosen}
    return x.reshape([s for i, s in enumerate(x.shape) if i not in drop])


@op("Unsqueeze")
def unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """With new axes of size one."""
    chosen = node.ints("axes", axes, [])
    rank = x.dim() + len(chosen)
    for axis in sorted(a % rank for a in chosen):
        x = x.unsqueeze(axis)
    return x


@op("Concat")
def concat(node: Node, *tensors: Tensor) -> Tensor:
    """Joined along an axis. A part with a batch of one is repeated to the others' batch."""
    axis = node.get("axis", 1)
    parts = together(*(t for t in tensors if t is not None))
    rank = parts[0].dim()
    batch = max((t.shape[0] for t in parts), default=1) if rank else 1
    if axis % max(rank, 1) and any(t.shape[0] == 1 != batch for t in parts):
        parts = tuple(t.expand(batch, *t.shape[1:]) if t.shape[0] == 1 else t for t in parts)
    if len({t.dtype for t in parts}) > 1:
        dtype = next((t.dtype for t in parts if t.is_floating_point()), torch.int64)
        parts = tuple(t.to(dtype) for t in parts)
    return torch.cat(parts, axis)


@op("Split")
def split(node: Node, x: Tensor, sizes: Tensor | None = None) -> Result:
    """Parts along an axis, of given or equal sizes (the last may be smaller)."""
    axis = node.get("axis", 0)
    chosen = node.ints("split", sizes)
    if chosen is None:
        count = node.get("num_outputs") or node.outputs
        each = -(-x.shape[axis] // count)
        chosen = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    return tuple(torch.split(x, chosen, axis))


@op("Slice")
def slice_(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Ranges along axes; negative steps walk backwards."""
    first, last = node.ints("starts", starts), node.ints("ends", ends)
    chosen = node.ints("axes", axes) or list(range(len(first)))
    strides = node.ints("steps", steps) or [1] * len(first)
    for axis, low, high, step in zip(chosen, first, last, strides, strict=False):
        size = x.shape[axis]
        where = range(size)[low:high:step]
        if step > 0:
            index: list[Any] = [slice(None)] * x.dim()
            index[axis] = slice(where.start, max(where.start, where.stop), step)
            x = x[tuple(index)]
        else:
            x = x.index_select(axis, torch.tensor(list(where), dtype=torch.int64, device=x.device))
    return x


@op("Pad")
def pad(
    node: Node,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Padding (negative: cropping) by a constant, or by edge, reflected or wrapped values."""
    amounts = node.ints("pads", pads) or node.get("paddings")
    chosen = node.ints("axes", axes) or list(range(x.dim()))
    half = len(amounts) // 2
    begins, ends = [0] * x.dim(), [0] * x.dim()
    for i, axis in enumerate(chosen):
        begins[axis], ends[axis] = amounts[i], amounts[half + i]
    mode = node.get("mode", "constant")
    if mode == "constant":
        fill = node.get("value", 0.0) if value is None or not value.numel() else value.item()
        flat = [p for i in reversed(range(x.dim())) for p in (begins[i], ends[i])]
        return F.pad(x, flat, value=fill)
    for axis in range(x.dim()):
        if begins[axis] or ends[axis]:
            x = _pad_axis(x, axis, begins[axis], ends[axis], mode)
    return x


def _pad_axis(x: Tensor, axis: int, begin: int, end: int, mode: str) -> Tensor:
    size = x.shape[axis]
    at = torch.arange(-begin, size + end, device=x.device)
    if mode == "edge":
        at = at.clamp(0, size - 1)
    elif mode == "wrap":
        at = at.remainder(size)
    elif mode == "reflect":
        period = max(2 * (size - 1), 1)
        at = at.remainder(period)
        at = torch.minimum(at, period - at)
    else:
        raise NotImplementedError(f"Pad mode {mode}")
    return x.index_select(axis, at)


@op("Expand")
def expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """Broadcast to a shape, in both directions."""
    sizes = torch.broadcast_shapes(tuple(x.shape), tuple(shape.tolist()))  # type: ignore[no-untyped-call]
    return x.expand(sizes)


@op("Tile")
def tile(node: Node, x: Tensor, repeats: Tensor, axis: Tensor | None = None) -> Tensor:
    """Repetition along axes."""
    if axis is not None:  # operator set 1: `repeats` is the count, `axis` the axis
        counts = [1] * x.dim()
        counts[int(axis)] = int(repeats)
        return x.repeat(counts)
    return x.repeat(repeats.tolist())


@op("Trilu")
def trilu(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    """Upper or lower triangle."""
    diagonal = 0 if k is None else int(k)
    return x.triu(diagonal) if node.get("upper", 1) else x.tril(diagonal)


@op("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    """Channels to blocks of pixels."""
    b = node.get("blocksize")
    n, c, h, w = x.shape
    if node.get("mode", "DCR") == "DCR":
        y = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // (b * b), h * b, w * b)


@op("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    """Blocks of pixels to channels."""
    b = node.get("blocksize")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)
