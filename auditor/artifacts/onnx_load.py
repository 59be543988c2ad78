"""The one ONNX front end: bytes -> protobuf -> onnx-ir, for the twin and the file rules alike.

Nothing here runs a model or reads tensor data unless asked: external data stays on disk until
`tensor_array` wants it, and then only from inside the model's own folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import external_data
from onnx_ir.passes.common import InlinePass

from auditor.artifacts.onnx_parse import defect, odd_ranges, without_odd_ranges
from auditor.errors import UnreadableArtifact

MAX_INLINED_NODES = 200_000
"""Local functions may call each other; a small file can expand without bound."""

INLINE_PROBLEM = "auditor.inline_problem"
"""Key of `ir.Model.meta`: why functions were left in place (absent when all were inlined)."""

STORED_VALUES = "auditor.stored_values"
"""Key of `ir.Model.meta`: names of values that Constant and ConstantOfShape nodes of the file's own
main graph make. Together with its initializers these are the parameters that can be written back.
"""


def to_ir(proto: onnx.ModelProto, path: Path) -> ir.Model:
    """The model parsed from `path` as onnx-ir, external data left on disk, functions inlined.

    Where functions cannot be inlined (recursion, too large) they stay, and
    ``model.meta[INLINE_PROBLEM]`` says why. Raises `UnreadableArtifact`.
    """
    broken = defect(proto)
    if broken is not None:
        raise UnreadableArtifact(f"{path} is not a valid ONNX model: {broken}.")
    if odd_ranges(proto):
        proto = without_odd_ranges(proto)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as error:  # the parser meets hostile files: any failure means unreadable
        reason = str(error.__cause__ or error).splitlines()[0][:160]
        raise UnreadableArtifact(f"{path} is not a valid ONNX model: {reason}") from error
    _sort(model, path)
    folder = path.resolve().parent
    external_data.set_base_dir(model.graph, folder)
    for function in model.functions.values():
        external_data.set_base_dir(function.graph, folder)
    makers = {"Constant", "ConstantOfShape"}
    model.meta[STORED_VALUES] = {
        node.outputs[0].name for node in model.graph if node.op_type in makers and node.outputs
    }
    if model.functions:
        _inline_functions(model)
    return model


def _sort(model: ir.Model, path: Path) -> None:
    """Put nodes behind what they read: runtimes do, some converters leave them in any order."""
    made: set[ir.Value] = set()
    for node in model.graph:
        if any(v is not None and v.producer() is not None and v not in made for v in node.inputs):
            break
        made.update(node.outputs)
    else:
        return
    try:
        model.graph.sort()
    except ValueError as error:
        raise UnreadableArtifact(
            f"{path} is not a valid ONNX model: {error}".split("\n")[0]
        ) from error


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


def stored_value(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor in the node's ``value`` attribute; None where a damaged file has none there."""
    value = node.attributes.get("value")
    if value is None or value.is_ref() or value.type != ir.AttributeType.TENSOR:
        return None
    return value.as_tensor()


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
