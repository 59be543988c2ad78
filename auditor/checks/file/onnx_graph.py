"""The small intermediate form the ONNX rules read: a `Program` over the one onnx-ir front end.

Functions are inlined, subgraphs stay with their node, every value has a program-wide unique name,
and stored tensors stay where they are until a rule asks for their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from auditor.checks.interface import FileContext, Skipped
from auditor.errors import UnreadableArtifact

if TYPE_CHECKING:  # onnx_ir costs 0.4 s: only who reads a graph pays, not who lists the checks
    import onnx_ir as ir

MAX_NODES = 300_000
"""Above this a graph is reported by size and not walked."""


@dataclass(slots=True)
class Node:
    """One operation. `op` carries its domain outside the standard one; `bodies` are subgraphs."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]
    bodies: dict[str, Graph]
    source: ir.Node
    order: int = 0

    @property
    def label(self) -> str:
        """How reports call it: operator and node name (or first output)."""
        return f"{self.op}({self.name or (self.outputs[0] if self.outputs else '?')})"

    @property
    def data(self) -> tuple[str, ...]:
        """Inputs that are present."""
        return tuple(name for name in self.inputs if name)


@dataclass(slots=True)
class Graph:
    """Nodes in order, with the names of the graph's own inputs and outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """Every node, subgraphs after the node that owns them."""
        for node in self.nodes:
            yield node
            for body in node.bodies.values():
                yield from body.walk()


@dataclass(slots=True)
class Program:
    """A model as the rules see it.

    `tensors` are stored tensors by value name, `inputs` the graph inputs without initializers as
    (dtype name, shape with ints or names), `producer` maps a value to its node. `skeleton` is the
    protobuf with large tensors turned into inputs, for onnx's checker and shape inference.
    """

    main: Graph
    tensors: dict[str, ir.TensorProtocol]
    inputs: dict[str, tuple[str, tuple[int | str | None, ...] | None]]
    producer: dict[str, Node]
    consumers: dict[str, list[Node]]
    opsets: dict[str, int]
    model: ir.Model
    skeleton: onnx.ModelProto | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    def array(self, name: str, max_bytes: int = 1 << 26) -> NDArray[Any] | None:
        """Numbers of the stored tensor `name`; None when absent, unreadable or too large."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        try:
            from auditor.artifacts import onnx_load

            return onnx_load.tensor_array(tensor, max_bytes=max_bytes)
        except (UnreadableArtifact, TypeError, ValueError):
            return None


def require_onnx(context: FileContext) -> Path:
    """Path of the artifact. Raises `Skipped` on other formats."""
    if context.artifact.format != "onnx":
        raise Skipped(f"reads ONNX files; this one is {context.artifact.format}")
    return context.artifact.path


def load_program(path: Path) -> Program:
    """Parse `path` (kept for the next rule). Raises `UnreadableArtifact`."""
    stat = path.stat()
    return _load(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)
def _load(path: Path, mtime: int, size: int) -> Program:
    from auditor.artifacts import onnx_load, onnx_parse

    del mtime, size  # part of the key only: a changed file is read again
    proto = onnx_parse.read_model(path).proto
    bare = skeleton_of(proto)
    program = build_program(onnx_load.to_ir(proto, path))
    program.skeleton = bare
    return program


def build_program(model: ir.Model) -> Program:
    """The intermediate form of `model`, whose values are renamed where names repeat."""
    count = sum(1 for _ in model.graph.all_nodes())
    if count > MAX_NODES:
        raise UnreadableArtifact(f"the graph holds {count:,} nodes; rules read up to {MAX_NODES:,}")
    _make_names_unique(model)
    tensors: dict[str, ir.TensorProtocol] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                tensors[str(value.name)] = value.const_value
    main = _graph(model.graph, tensors)
    inputs = {
        str(value.name): (_dtype(value), _shape(value))
        for value in model.graph.inputs
        if str(value.name) not in tensors
    }
    producer: dict[str, Node] = {}
    consumers: dict[str, list[Node]] = {}
    for order, node in enumerate(main.walk()):
        node.order = order
        for name in node.outputs:
            producer[name] = node
        for name in node.data:
            consumers.setdefault(name, []).append(node)
    opsets = {domain: int(version) for domain, version in model.opset_imports.items()}
    return Program(main, tensors, inputs, producer, consumers, opsets, model)


SKELETON_BYTES = 1 << 14
"""Stored tensors up to this size stay in the skeleton: shapes and axes are among them."""


def skeleton_of(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `proto` whose large and external initializers are typed graph inputs."""
    bare = onnx.ModelProto()
    for entry, value in proto.ListFields():
        if entry.name == "graph":
            continue
        if hasattr(value, "extend"):
            getattr(bare, entry.name).extend(value)
        elif entry.message_type is None:
            setattr(bare, entry.name, value)
    graph = bare.graph
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    known = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.data_location == 0 and tensor.ByteSize() <= SKELETON_BYTES:
            graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in known:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.add().CopyFrom(info)
    return bare


def _make_names_unique(model: ir.Model) -> None:
    seen: set[str] = set()
    fresh = 0
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values()]
        values += [value for node in graph for value in node.outputs]
        for value in dict.fromkeys(values):
            if value.name in seen or value.name is None:
                fresh += 1
                value.name = f"{value.name or 'value'}__{fresh}"
            seen.add(str(value.name))


def _graph(graph: Any, tensors: dict[str, ir.TensorProtocol]) -> Graph:
    result = Graph(
        tuple(str(value.name) for value in graph.inputs),
        tuple("" if value is None else str(value.name) for value in graph.outputs),
    )
    for node in graph:
        made = _node(node, tensors)
        if made.op == "Constant" and _keep_constant(made, tensors):
            continue
        result.nodes.append(made)
    return result


def _node(node: ir.Node, tensors: dict[str, ir.TensorProtocol]) -> Node:
    import onnx_ir as ir

    from auditor.artifacts.onnx_load import operator_name

    attrs: dict[str, Any] = {}
    bodies: dict[str, Graph] = {}
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            bodies[attribute.name] = _graph(attribute.as_graph(), tensors)
        elif attribute.type == ir.AttributeType.GRAPHS:
            for index, graph in enumerate(attribute.as_graphs()):
                bodies[f"{attribute.name}[{index}]"] = _graph(graph, tensors)
        else:
            attrs[attribute.name] = attribute.value
    return Node(
        op=operator_name(node),
        name=node.name or "",
        inputs=tuple("" if value is None else str(value.name) for value in node.inputs),
        outputs=tuple(str(value.name) for value in node.outputs),
        attrs=attrs,
        bodies=bodies,
        source=node,
    )


def _keep_constant(node: Node, tensors: dict[str, ir.TensorProtocol]) -> bool:
    """Turn a Constant node into a stored tensor; False when its kind is not a dense tensor."""
    import onnx_ir as ir

    for key, value in node.attrs.items():
        if key == "value":
            tensors[node.outputs[0]] = value
        elif key in ("value_float", "value_floats"):
            tensors[node.outputs[0]] = ir.tensor(np.asarray(value, np.float32))
        elif key in ("value_int", "value_ints"):
            tensors[node.outputs[0]] = ir.tensor(np.asarray(value, np.int64))
        else:
            return False
        return True
    return False


def _dtype(value: ir.Value) -> str:
    return "" if value.dtype is None else str(value.dtype.name)


def _shape(value: ir.Value) -> tuple[int | str | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)


def captured(node: Node) -> set[str]:
    """Outer values that the bodies of `node` read."""
    names: set[str] = set()
    for body in node.bodies.values():
        inner = set(body.inputs)
        for child in body.nodes:
            names.update(name for name in child.data if name not in inner)
            names.update(name for name in captured(child) if name not in inner)
            inner.update(child.outputs)
        names.update(name for name in body.outputs if name and name not in inner)
    return names
