"""Remove silent channels from an ONNX graph: smaller weights, the same answers.

A channel is silent where everything that makes it is zero: the rows of its Conv or Gemm and the
bias, or the scale and shift of the BatchNormalization behind it. It can go when all that reads it
keeps zero at zero (Relu, pooling, reshaping to rows) until one Conv or Gemm takes it in: the rows
here and the columns there are deleted. Branches, groups and anything else end the search; those
channels stay, silent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

_KEEP_ZERO = {
    "Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "Dropout", "Identity", "Elu", "Selu", "Celu", "Gelu", "HardSwish", "Tanh",
}  # fmt: skip
_FLATTENS = {"Flatten", "Reshape"}


class CannotSlim(Exception):
    """Nothing can be removed; the message says why."""


@dataclass(slots=True)
class _Chain:
    """From the node that makes channels to the one that reads them."""

    maker: onnx.NodeProto
    reader: onnx.NodeProto
    norm: onnx.NodeProto | None
    shapes: list[onnx.NodeProto] = field(default_factory=list)


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.graph = model.graph
        self.tensors = {t.name: t for t in self.graph.initializer}
        self.arrays: dict[str, NDArray[Any]] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in self.graph.output}
        self._read = numpy_helper.to_array

    def array(self, name: str) -> NDArray[Any] | None:
        """A stored tensor that one node alone reads, or None."""
        if name not in self.tensors or len(self.readers.get(name, [])) != 1:
            return None
        if name not in self.arrays:
            self.arrays[name] = self._read(self.tensors[name])
        return self.arrays[name]

    def store(self, name: str, value: NDArray[Any]) -> None:
        from onnx import numpy_helper

        self.arrays[name] = value
        self.tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def slim_file(path: Path) -> Mapping[str, int]:
    """Rewrite `path` without its silent channels; how many went, and bytes before and after.

    Raises `CannotSlim`. The file is replaced at once, or not touched.
    """
    import onnx

    model = onnx.load(path)
    before = path.stat().st_size
    removed = slim(model)
    if not removed:
        raise CannotSlim(
            "no channel is silent in a place where it could be removed (a method that prunes makes "
            "such channels: lipschitz-pruning, adversarial-pruning, fine-pruning)"
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return {
        "slim.channels": removed,
        "slim.bytes_before": before,
        "slim.bytes": path.stat().st_size,
    }


def slim(model: onnx.ModelProto) -> int:
    """Remove silent channels of `model` in place; returns how many."""
    graph = _Graph(model)
    removed = 0
    for node in list(graph.graph.node):
        if node.op_type not in ("Conv", "Gemm"):
            continue
        chain = _follow(graph, node)
        if chain is not None:
            removed += _cut(graph, chain)
    if removed:
        # Shapes stated inside the graph no longer hold where channels went.
        del graph.graph.value_info[:]
    return removed


def _follow(graph: _Graph, maker: onnx.NodeProto) -> _Chain | None:
    """The only way from `maker` to the next layer, or None when it is not that simple."""
    if _attribute(maker, "group", 1) != 1 or _attribute(maker, "transA", 0):
        return None
    norm: onnx.NodeProto | None = None
    shapes: list[onnx.NodeProto] = []
    at = maker
    for _ in range(32):
        value = at.output[0]
        readers = graph.readers.get(value, [])
        if len(readers) != 1 or value in graph.outputs:
            return None
        at = readers[0]
        if at.input[0] != value:
            return None
        if at.op_type == "BatchNormalization" and at is not maker and norm is None and not shapes:
            norm = at
        elif at.op_type in ("Conv", "Gemm"):
            fits = _attribute(at, "group", 1) == 1 and not _attribute(at, "transA", 0)
            return _Chain(maker, at, norm, shapes) if fits else None
        elif at.op_type in _FLATTENS:
            shapes.append(at)
        elif at.op_type not in _KEEP_ZERO:
            return None
    return None


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _rows(node: onnx.NodeProto, weight: NDArray[Any]) -> NDArray[Any]:
    """The weight with its output channels first."""
    if node.op_type == "Gemm" and not _attribute(node, "transB", 0):
        return weight.T
    return weight


def _cut(graph: _Graph, chain: _Chain) -> int:
    maker, reader = chain.maker, chain.reader
    weight, taken = graph.array(maker.input[1]), graph.array(reader.input[1])
    if weight is None or taken is None:
        return 0
    rows = _rows(maker, weight)
    silent = _silent(graph, chain, rows)
    # One channel stays, so that no tensor becomes empty.
    if silent is None or not silent.any() or silent.all():
        return 0
    keep = np.flatnonzero(~silent)
    columns = _columns(graph, chain, _rows(reader, taken), len(silent), keep)
    if columns is None:
        return 0
    kept = rows[keep]
    transposed = maker.op_type == "Gemm" and not _attribute(maker, "transB", 0)
    graph.store(maker.input[1], kept.T if transposed else kept)
    for name in _vectors(chain):
        value = graph.array(name)
        assert value is not None
        graph.store(name, value[keep])
    flat = reader.op_type == "Gemm" and not _attribute(reader, "transB", 0)
    graph.store(reader.input[1], columns.T if flat else columns)
    return int(silent.sum())


def _vectors(chain: _Chain) -> list[str]:
    """Names of the per-channel vectors: the bias, and the normalisation's four."""
    names = [name for name in chain.maker.input[2:3] if name]
    return [*names, *(chain.norm.input[1:5] if chain.norm is not None else ())]


def _silent(graph: _Graph, chain: _Chain, rows: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which channels are zero on every image, (C,); None when that cannot be told."""
    stored = [graph.array(name) for name in _vectors(chain)]
    if any(value is None or value.shape != (len(rows),) for value in stored):
        return None
    if chain.norm is not None:
        scale, shift = (graph.array(name) for name in chain.norm.input[1:3])
        assert scale is not None and shift is not None
        silent: NDArray[np.bool_] = (scale == 0) & (shift == 0)
        return silent
    zero: NDArray[np.bool_] = (rows.reshape(len(rows), -1) == 0).all(axis=1)
    for value in stored:
        zero = zero & (value == 0)
    return zero


def _columns(
    graph: _Graph, chain: _Chain, taken: NDArray[Any], channels: int, keep: NDArray[np.int64]
) -> NDArray[Any] | None:
    """The reader's weight, output channels first, without the columns of the silent channels."""
    if taken.shape[1] % channels:
        return None
    each = taken.shape[1] // channels
    if each != 1 and (chain.reader.op_type == "Conv" or not chain.shapes):
        return None
    for node in chain.shapes:
        if not _reshaped(graph, node, channels * each, len(keep) * each):
            return None
    shape = (len(taken), channels, each, *taken.shape[2:])
    left = taken.reshape(shape)[:, keep]
    return left.reshape(len(taken), len(keep) * each, *taken.shape[2:])


def _reshaped(graph: _Graph, node: onnx.NodeProto, before: int, after: int) -> bool:
    """Let a Flatten or Reshape to rows make rows of `after` values; False when it does not."""
    if node.op_type == "Flatten":
        return _attribute(node, "axis", 1) == 1
    shape = graph.array(node.input[1])
    if shape is None or shape.shape != (2,) or shape[1] not in (-1, before):
        return False
    if shape[1] == before:
        graph.store(node.input[1], np.array([shape[0], after], shape.dtype))
    return True
