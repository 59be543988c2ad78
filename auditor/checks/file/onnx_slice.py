"""The part of a model that computes some of its values, as a small model of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from numpy.typing import NDArray

from auditor.checks.file.onnx_graph import Node, Program, captured

if TYPE_CHECKING:
    import onnx_ir as ir


def slice_model(
    program: Program, targets: tuple[str, ...], free: frozenset[str] = frozenset()
) -> onnx.ModelProto | None:
    """The part of the model that computes `targets` from inputs and `free` values, as a model.

    None when it needs a value of a Loop or Scan body that is not `free`, or an unreadable tensor.
    """
    import onnx_ir as ir

    wanted, nodes, stack = set[str](), dict[int, Node](), [*targets]
    while stack:
        name = stack.pop()
        if name in wanted:
            continue
        wanted.add(name)
        node = program.producer.get(name)
        if node is not None:
            nodes[id(node)] = node
            stack.extend(node.data)
            stack.extend(captured(node))
    proto = onnx.ModelProto(ir_version=min(program.model.ir_version, onnx.IR_VERSION))
    proto.graph.name = "slice"
    for domain, version in program.opsets.items():
        proto.opset_import.add(domain=domain, version=version)
    for node in sorted(nodes.values(), key=lambda item: item.order):
        proto.graph.node.append(ir.serde.serialize_node(node.source))
    for name in wanted:
        if name in program.producer:
            continue
        if name in program.tensors:
            array = program.array(name)
            if array is None:
                return None
            proto.graph.initializer.append(_tensor_proto(name, program.tensors[name], array))
        elif name in program.inputs or name in free:
            proto.graph.input.add(name=name)
        else:
            return None
    for target in targets:
        proto.graph.output.add(name=target)
    return proto


def _tensor_proto(name: str, tensor: ir.TensorProtocol, array: NDArray[Any]) -> onnx.TensorProto:
    import onnx_ir as ir

    if tensor.dtype == ir.DataType.STRING:
        return onnx.helper.make_tensor(name, onnx.TensorProto.STRING, array.shape, array.ravel())
    proto = onnx.TensorProto(
        name=name, data_type=int(tensor.dtype), dims=list(tensor.shape.numpy())
    )
    proto.raw_data = tensor.tobytes()
    return proto
