"""The one ONNX front end: bytes -> protobuf -> onnx-ir, for the twin and the file rules alike.

Nothing here runs a model or reads tensor data unless asked: external data stays on disk until
`tensor_array` wants it, and then only from inside the model's own folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx_ir import external_data
from onnx_ir.passes.common import InlinePass

from auditor.errors import UnreadableArtifact

MAX_INLINED_NODES = 200_000
"""Local functions may call each other; a small file can expand without bound."""

INLINE_PROBLEM = "auditor.inline_problem"
"""Key of `ir.Model.meta`: why functions were left in place (absent when all were inlined)."""

STORED_VALUES = "auditor.stored_values"
"""Key of `ir.Model.meta`: names of values that Constant and ConstantOfShape nodes of the file's own
main graph make. Together with its initializers these are the parameters that can be written back.
"""

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


def load_ir(path: Path, *, inline: bool = True) -> ir.Model:
    """Load `path` as onnx-ir, external data left on disk, functions inlined.

    Where functions cannot be inlined (recursion, too large) they stay, and
    ``model.meta[INLINE_PROBLEM]`` says why. Raises `UnreadableArtifact`.
    """
    return to_ir(read_model(path).proto, path, inline=inline)


def to_ir(proto: onnx.ModelProto, path: Path, *, inline: bool = True) -> ir.Model:
    """`load_ir` for a model already parsed from `path` (which anchors its external data)."""
    if _odd_ranges(proto):
        proto = _without_odd_ranges(proto)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as error:  # the parser meets hostile files: any failure means unreadable
        reason = str(error.__cause__ or error).splitlines()[0][:160]
        raise UnreadableArtifact(f"{path} is not a valid ONNX model: {reason}") from error
    folder = path.resolve().parent
    external_data.set_base_dir(model.graph, folder)
    for function in model.functions.values():
        external_data.set_base_dir(function.graph, folder)
    makers = {"Constant", "ConstantOfShape"}
    model.meta[STORED_VALUES] = {
        node.outputs[0].name for node in model.graph if node.op_type in makers and node.outputs
    }
    if inline and model.functions:
        _inline_functions(model)
    return model


def _odd_ranges(proto: onnx.ModelProto) -> bool:
    """True when an external offset or length is no plain number, which onnx-ir cannot read."""
    return any(
        entry.key in ("offset", "length") and not entry.value.isdecimal()
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
    )


def _without_odd_ranges(proto: onnx.ModelProto) -> onnx.ModelProto:
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


def opset_of(model: ir.Model, node: ir.Node) -> int:
    """Operator set version that `node` follows (functions may bring their own)."""
    if node.version is not None:
        return int(node.version)
    imports = model.opset_imports
    domain = "" if node.domain == "ai.onnx" else node.domain
    return int(imports.get(domain, imports.get("ai.onnx", 1) if not domain else 1))


def operator_name(node: ir.Node) -> str:
    """``Conv``, or ``com.microsoft::QLinearAdd`` outside the default domain."""
    if node.domain in ("", "ai.onnx"):
        return str(node.op_type)
    return f"{node.domain}::{node.op_type}"


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the graph, its subgraphs, and functions left in place."""
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def all_tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every stored tensor: initializers, then tensors in node attributes, at any depth."""
    functions = [function.graph for function in model.functions.values()]
    inner = [graph for function in functions for graph in function.subgraphs()]
    for graph in [*model.graphs(), *functions, *inner]:
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
    for node in all_nodes(model):
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.TENSOR:
                yield attribute.as_tensor()
            elif attribute.type == ir.AttributeType.TENSORS:
                yield from attribute.as_tensors()


def external_files(model: ir.Model) -> dict[str, Path]:
    """Location as written -> path, for every external tensor, unchecked and in file order."""
    found: dict[str, Path] = {}
    for tensor in all_tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            found.setdefault(str(tensor.location), Path(tensor.path))
    return found


def inside_folder(path: Path, folder: Path) -> bool:
    """True when `path`, links followed, is a file below `folder` (links followed)."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def tensor_array(tensor: ir.TensorProtocol, *, max_bytes: int = 1 << 32) -> NDArray[Any]:
    """Data of `tensor` as an array (external data mapped, never copied).

    Raises `UnreadableArtifact` when the data lie outside the model's folder, are missing, too
    short, inconsistent with the shape, or larger than `max_bytes`.
    """
    if tensor.nbytes > max_bytes:
        raise UnreadableArtifact(f"Tensor {tensor.name!r} claims {tensor.nbytes:,} bytes.")
    if isinstance(tensor, ir.ExternalTensor):
        _check_external(tensor)
    try:
        return np.asarray(tensor.numpy())
    except Exception as error:  # hostile shapes and lengths surface as many exception types
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UnreadableArtifact(f"Tensor {tensor.name!r} cannot be read: {reason}") from error


def _check_external(tensor: ir.ExternalTensor) -> None:
    path = Path(tensor.path)
    name = str(tensor.location)
    if not inside_folder(path, Path(tensor.base_dir)):
        raise UnreadableArtifact(
            f"Tensor {tensor.name!r} wants external data outside the model's folder: {name!r}."
        )
    if not path.is_file():
        raise UnreadableArtifact(
            f"The external data file {name!r} is missing: it must lie beside the model."
        )
    needed = (tensor.offset or 0) + tensor.nbytes
    if (tensor.offset or 0) < 0 or path.stat().st_size < needed:
        raise UnreadableArtifact(f"The external data file {name!r} is shorter than {needed} bytes.")


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


def _inline_functions(model: ir.Model) -> None:
    """Inline in place; leave the functions and note the reason where that is not possible."""
    try:
        nodes = _expanded_size(model)
        if nodes > MAX_INLINED_NODES:
            model.meta[INLINE_PROBLEM] = f"local functions expand to {nodes:,} nodes"
            return
        for function in model.functions.values():
            # Nodes remember the version their function was written for, then imports can agree.
            for node in function.all_nodes():
                version = function.opset_imports.get(node.domain)
                if version is not None and version != model.opset_imports.get(node.domain):
                    node.version = version
            for domain in set(function.opset_imports) & set(model.opset_imports):
                function.opset_imports[domain] = model.opset_imports[domain]
        InlinePass()(model)
    except Exception as error:  # onnx-ir wraps what goes wrong in several exception types
        reason = str(error.__cause__ or error).splitlines()[0][:160]
        model.meta[INLINE_PROBLEM] = f"local functions cannot be inlined: {reason}"


def _expanded_size(model: ir.Model) -> int:
    """Number of nodes after inlining, computed without doing it. Raises on recursion."""
    sizes: dict[Any, int] = {}
    open_calls: set[Any] = set()

    def size(identifier: Any) -> int:
        if identifier in open_calls:
            raise ValueError(f"function {identifier[1]} calls itself")
        if identifier not in sizes:
            open_calls.add(identifier)
            sizes[identifier] = total(model.functions[identifier].all_nodes())
            open_calls.discard(identifier)
        return sizes[identifier]

    def total(nodes: Iterator[ir.Node]) -> int:
        count = 0
        for node in nodes:
            identifier = node.op_identifier()
            count += size(identifier) if identifier in model.functions else 1
        return count

    return total(model.graph.all_nodes())
