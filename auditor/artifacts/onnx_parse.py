"""From bytes to an ONNX protobuf: damaged, merged and oddly filled files told apart.

Nothing here reads tensor data outside the file or interprets the graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from auditor.errors import UnreadableArtifact

_FIELD_GRAPH = 7
_WIRE_TYPES = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""ModelProto field number -> protobuf wire type (0 varint, 2 length-delimited)."""


@dataclass(frozen=True, slots=True)
class ParsedModel:
    """`proto` without external data; `size` bytes belong to it, `trailing` bytes follow it.

    Bytes after the model make runtimes refuse the file; file rules want to see them.
    """

    proto: onnx.ModelProto
    size: int
    trailing: int


def read_model(path: Path) -> ParsedModel:
    """Parse the protobuf at `path`; no tensor data outside the file is touched.

    A file that is a whole model followed by foreign bytes parses with `trailing` > 0. Raises
    `UnreadableArtifact` when the file is missing, empty, truncated or not ONNX.
    """
    data = _read_bytes(path)
    proto = onnx.ModelProto()
    size = len(data)
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        size = _model_prefix(data)
        if not size:
            raise UnreadableArtifact(
                f"{path} is not a complete ONNX model: its protobuf is damaged or truncated."
            ) from error
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(data[:size])
        except DecodeError:
            raise UnreadableArtifact(f"{path} is not an ONNX model: damaged protobuf.") from error
    second = _second_model(data) if size == len(data) else 0
    if second:  # protobuf readers would merge the two
        size = second
        proto = onnx.ModelProto()
        proto.ParseFromString(data[:size])
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise UnreadableArtifact(f"{path} is not an ONNX model: it holds no graph.")
    return ParsedModel(proto, size, len(data) - size)


def odd_ranges(proto: onnx.ModelProto) -> bool:
    """True when an external offset or length is no plain number, which onnx-ir cannot read."""
    return any(
        entry.key in ("offset", "length") and not entry.value.isdecimal()
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
    )


def without_odd_ranges(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for reading the graph; the file rules report the ranges from the bytes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        kept = [
            entry
            for entry in tensor.external_data
            if entry.key not in ("offset", "length") or entry.value.isdecimal()
        ]
        if len(kept) < len(tensor.external_data):
            pairs = [(entry.key, entry.value) for entry in kept]
            del tensor.external_data[:]
            for key, value in pairs:
                tensor.external_data.add(key=key, value=value)
    return copy


def defect(proto: onnx.ModelProto) -> str | None:
    """What every reader would stumble over, in words; None when the graph can be worked with.

    Tensors without a known data type (onnx-ir raises wherever their size is asked for), constants
    without a value and control flow without condition or body. Runtimes refuse all of these.
    """
    known = set(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
    functions = [node for function in proto.functions for node in function.node]
    for tensor in [*_tensors(proto.graph), *_in_nodes(functions)]:
        if tensor.data_type not in known:
            return f"tensor {tensor.name!r} has no known data type"
    for node in _nodes([*proto.graph.node, *functions]):
        if node.domain in ("", "ai.onnx") and (missing := _missing(node)):
            return f"{node.op_type} node {node.name!r} has no {missing}"
    return None


_BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}


def _missing(node: onnx.NodeProto) -> str:
    """What a Constant or control-flow node lacks, or an empty string."""
    found = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Constant":
        kinds = {name: attribute.type for name, attribute in found.items()}
        typed = kinds.get("value", onnx.AttributeProto.TENSOR) == onnx.AttributeProto.TENSOR
        return "" if found and typed else "value"
    for body in _BODIES.get(node.op_type, ()):
        if body not in found or found[body].type != onnx.AttributeProto.GRAPH:
            return body
    return "condition" if node.op_type == "If" and not node.input else ""


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g.node)
            for graph in attribute.graphs:
                yield from _nodes(graph.node)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            claimed = attribute.type == onnx.AttributeProto.TENSOR and not attribute.ref_attr_name
            if attribute.HasField("t") or claimed:
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for graph in attribute.graphs:
                yield from _tensors(graph)


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise UnreadableArtifact(f"{path} is a directory, not a model file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UnreadableArtifact(f"{path} cannot be read: {reason}.") from error
    if not data:
        raise UnreadableArtifact(f"{path} is empty.")
    return data


def _model_prefix(data: bytes) -> int:
    """Length of the longest run of whole top-level ModelProto fields, 0 when it has no graph."""
    at, end, seen_graph = 0, 0, False
    while at < len(data):
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if at < 0 or _WIRE_TYPES.get(field) != wire:
            break
        length, at = _varint(data, at)
        if wire == 2 and at >= 0:
            at += length
        if at < 0 or at > len(data):
            break
        seen_graph = seen_graph or field == _FIELD_GRAPH
        end = at
    return end if seen_graph else 0


def _second_model(data: bytes) -> int:
    """Where a second model starts in `data` that parses as a whole: its graph comes twice."""
    at, seen, starts = 0, set[int](), 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if at < 0 or wire not in (0, 1, 2, 5):
            return 0
        if _FIELD_GRAPH in seen and number in seen and number in (1, _FIELD_GRAPH):
            starts = starts or start
            if number == _FIELD_GRAPH:
                return starts
        seen.add(number)
        if wire == 0:
            at = _varint(data, at)[1]
        elif wire == 2:
            length, at = _varint(data, at)
            at += length if at >= 0 else 0
        else:
            at += 8 if wire == 1 else 4
        if at < 0:
            return 0
    return 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    return 0, -1
