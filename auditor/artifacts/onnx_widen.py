"""A copy of an ONNX model computing in float32, for types ONNX Runtime has no CPU kernels of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx

_WIDE = onnx.TensorProto.FLOAT
_KINDS = {onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
_TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "stash_type"}


def needs_widening(model: onnx.ModelProto) -> bool:
    """True when the model stores or casts to bfloat16 or double."""
    tensors = any(tensor.data_type in _KINDS for tensor in _tensors(model))
    return tensors or any(attribute.i in _KINDS for attribute in _types(model))


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with every bfloat16 and double as float32; external data must be loaded already."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in list(_tensors(copy)):
        if tensor.data_type in _KINDS:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for attribute in _types(copy):
        if attribute.i in _KINDS:
            attribute.i = _WIDE
    for graph in _graphs(copy.graph):
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type in _KINDS:
                value.type.tensor_type.elem_type = _WIDE
    for function in copy.functions:
        for value in function.value_info:
            if value.type.tensor_type.elem_type in _KINDS:
                value.type.tensor_type.elem_type = _WIDE
    return copy


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and the subgraphs of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model.graph):
        yield from graph.initializer
    yield from _in_attributes(_nodes(model))


def _in_attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _types(model: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    """Attributes that name a tensor type."""
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.type == onnx.AttributeProto.INT:
                yield attribute
