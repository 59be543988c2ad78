"""Which input a torch classifier takes, found by trying, and how to feed it any batch size.

An archive rarely states its input shape, and traces bake in a batch of one or no batch at all.
Both the native runtime and the twin go through `Feeder`, so both treat a batch the same way.
Child only: imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.twin.aten_record import has_batch_of_one
from auditor.twin.interface import NoTwin

SIDES = (32, 28, 64, 96, 128, 224, 48, 160, 192, 227, 256, 299, 384, 16, 8, 112, 512)
"""Image sides in the order they are tried; common data sets first."""

BATCHES = (1, 4, 8, 16, 32, 64, 128, 2, 10, 100)
"""Fixed batch sizes tried when neither a free batch nor a single sample works."""

_MOST_VALUES = 2_000_000
"""Fixed batches larger than this are not tried: a file that refuses everything must not take long.
"""


@dataclass(frozen=True, slots=True)
class FirstLayer:
    """What the first weighted layer tells: `kind` conv or dense, `channels` in, `axes` spatial."""

    kind: str
    channels: int
    axes: int = 2


def candidate_shapes(first: FirstLayer | None) -> Iterator[tuple[int, ...]]:
    """Per-sample input shapes worth trying, likeliest first."""
    if first is None or (first.kind == "conv" and first.axes not in (1, 2)):
        for channels in (3, 1):
            yield from ((channels, side, side) for side in SIDES)
        return
    c = first.channels
    if first.kind == "conv" and first.axes == 1:
        yield from ((c, side * side) for side in SIDES)
    elif first.kind == "conv":
        yield from ((c, side, side) for side in SIDES)
        # Patches cut before the first convolution, or images that came channels last.
        yield from ((side, side, c) for side in SIDES)
        yield from ((k, side, side) for k in (3, 1) if k != c for side in SIDES[:6])
    else:
        for channels in (1, 3, 4):
            side = round((c / channels) ** 0.5)
            if channels * side * side == c:
                yield (channels, side, side)
                yield (side, side) if channels == 1 else (side, side, channels)
        yield (c,)
        for channels in (1, 3):  # patches or tokens
            yield from ((channels, side, side) for side in SIDES[:6])


class Feeder:
    """Runs `call` on batches of any size; `rows` is how many it takes at once.

    `rows`: 0 any number; -1 unbatched samples, one at a time; k > 0 exactly k (padded, looped).
    """

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows

    def run(self, batch: Tensor, call: Callable[[Tensor], Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """`call` on `batch` (N, ...) in the form it takes; its tensors joined along axis 0."""
        if self.rows == 0:
            return tuple(call(batch.contiguous()))
        if self.rows < 0:
            pieces = [[_with_batch(t) for t in call(x.contiguous())] for x in batch.unbind(0)]
            return tuple(torch.cat(column) for column in zip(*pieces, strict=True))
        pieces = []
        for chunk in torch.split(batch, self.rows):
            n = chunk.shape[0]
            if n < self.rows:
                chunk = torch.cat([chunk, chunk[-1:].expand(self.rows - n, *chunk.shape[1:])])
            pieces.append([_rows(t, self.rows, n) for t in call(chunk.contiguous())])
        return tuple(torch.cat(column) for column in zip(*pieces, strict=True))


def _with_batch(value: Tensor) -> Tensor:
    """An unbatched value with a batch axis of one, unless the model has put one there itself."""
    return value if has_batch_of_one(value) else value[None]


def _rows(value: Tensor, rows: int, wanted: int) -> Tensor:
    if value.dim() == 0 or value.shape[0] != rows:
        value = value.reshape(1, *value.shape).expand(rows, *value.shape)
    return value[:wanted]


def fit_rows(
    shape: tuple[int, ...],
    call: Callable[[Tensor], Sequence[Tensor]],
    dtype: torch.dtype = torch.float32,
) -> int | None:
    """The `Feeder.rows` with which `call` takes samples of `shape`; None when nothing works."""
    sample = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    if _accepts(call, sample.expand(2, *shape).contiguous(), 2):
        return 0
    if _accepts(call, sample, 1):
        return 1
    if len(shape) > 1 and _accepts(call, sample[0], None):
        return -1
    return None


def fit_fixed_rows(
    shape: tuple[int, ...],
    call: Callable[[Tensor], Sequence[Tensor]],
    dtype: torch.dtype = torch.float32,
) -> int | None:
    """Like `fit_rows` for traces with a larger batch baked in."""
    for rows in BATCHES[1:]:
        if rows * math.prod(shape) > _MOST_VALUES:
            continue
        if _accepts(call, torch.full((rows, *shape), 0.5, dtype=dtype), rows):
            return rows
    return None


def _accepts(call: Callable[[Tensor], Sequence[Tensor]], x: Tensor, rows: int | None) -> bool:
    try:
        with torch.no_grad():
            outputs = call(x)
    except NoTwin:
        raise
    except Exception:  # a scripted network raises whatever it likes on a shape it does not take
        return False
    floats = [t for t in outputs if t.is_floating_point()] or list(outputs)
    if not floats or any(0 in t.shape for t in floats):
        return False
    return rows is None or (floats[0].dim() > 0 and floats[0].shape[0] == rows)


def discover(
    first: FirstLayer | None, call: Callable[[Tensor], Sequence[Tensor]]
) -> tuple[tuple[int, ...], int] | None:
    """(per-sample shape, rows) of the first candidate `call` accepts, or None."""
    shapes = list(dict.fromkeys(candidate_shapes(first)))
    doubtful = None
    for shape in shapes:
        rows = fit_rows(shape, call)
        if rows == -1 and not _one_row(call, shape):
            # `x.view(-1, 1, 8, 8)` cuts a larger image into many: keep looking for its real size.
            doubtful = doubtful or (shape, rows)
        elif rows is not None:
            return shape, rows
    for shape in shapes[:6]:
        rows = fit_fixed_rows(shape, call)
        if rows is not None:
            return shape, rows
    return doubtful


def _one_row(call: Callable[[Tensor], Sequence[Tensor]], shape: tuple[int, ...]) -> bool:
    """True when an unbatched sample gives one row of values, with or without a batch of one."""
    with torch.no_grad():
        outputs = call(torch.rand(*shape, generator=torch.Generator().manual_seed(0)))
    floats = [t for t in outputs if t.is_floating_point()] or list(outputs)
    return floats[0].numel() == max(floats[0].shape, default=1)
