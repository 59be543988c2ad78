"""Shape inference that a file cannot turn into a bomb against the auditor itself."""

from __future__ import annotations

import onnx

from auditor.checks.file.onnx_weights import words

CARRIES = words(
    "Concat Gather Slice Add Sub Mul Div Mod Min Max Neg Cast Identity Unsqueeze Squeeze Reshape "
    "Where Ceil Floor Abs"
)
"""Operators whose values onnx computes while it infers shapes."""

MOST = 1 << 20


def inferred_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`proto` with inferred shapes, from computed sizes too where those stay small.

    Computing sizes means that onnx evaluates small integer tensors: 40 Concats of a value with
    itself are 2**40 numbers. Such graphs are inferred without. Raises what onnx raises.
    """
    small = _largest(proto.graph) <= MOST
    return onnx.shape_inference.infer_shapes(proto, data_prop=small)


def _largest(graph: onnx.GraphProto) -> int:
    """Most numbers a value could come to hold when values are carried along, bodies included."""
    counts = {tensor.name: max(1, sum(tensor.dims)) for tensor in graph.initializer}
    largest = 0
    for node in graph.node:
        held = [counts.get(name, 1) for name in node.input] or [1]
        count = 1
        if node.op_type in CARRIES:
            count = sum(held) if node.op_type == "Concat" else max(held)
        for name in node.output:
            counts[name] = count
        largest = max(largest, count)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                largest = max(largest, _largest(attribute.g))
    return largest
