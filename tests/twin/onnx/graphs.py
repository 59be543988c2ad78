"""Small ONNX graphs for tests, and their comparison with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from auditor.artifacts.onnx_load import STORED_VALUES
from auditor.twin.onnx.network import OnnxTwin

Array = np.ndarray[Any, Any]


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[Any],
    outputs: list[str],
    constants: dict[str, Array] | None = None,
    opset: int = 20,
    *,
    kind: int = TensorProto.FLOAT,
    output_kind: int = TensorProto.FLOAT,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    """A model with one input "x" of shape `inputs` (sizes, names or None)."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, inputs)],
        [helper.make_tensor_value_info(name, output_kind, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    if functions:
        opsets.append(helper.make_opsetid("local", 1))
    return helper.make_model(
        made, opset_imports=opsets, ir_version=8 if opset < 21 else 10, functions=functions or []
    )


def native(proto: onnx.ModelProto, x: Array, *, optimised: bool = True) -> list[Array]:
    """What ONNX Runtime computes."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(y) for y in session.run(None, {session.get_inputs()[0].name: x})]


def twin_of(proto: onnx.ModelProto, **options: Any) -> OnnxTwin:
    """The twin of an in-memory model."""
    model = ir.serde.deserialize_model(proto)
    model.meta[STORED_VALUES] = {n.output[0] for n in proto.graph.node if n.output}
    return OnnxTwin(model, **options)


def worst(theirs: list[Array], ours: tuple[torch.Tensor, ...]) -> float:
    """Largest difference relative to the largest value; infinite where shapes differ."""
    gap = 0.0
    for a, b in zip(theirs, ours, strict=True):
        mine = b.detach().numpy()
        if a.shape != mine.shape:
            return float("inf")
        if a.size:
            scale = max(float(np.abs(a.astype(np.float64)).max()), 1e-6)
            gap = max(gap, float(np.abs(a.astype(np.float64) - mine).max()) / scale)
    return gap


def gap(proto: onnx.ModelProto, x: Array, **options: Any) -> float:
    """Relative difference between twin and ONNX Runtime on `x`."""
    ours = twin_of(proto).run(torch.from_numpy(np.asarray(x, dtype=np.float32))).outputs
    return worst(native(proto, x, **options), ours)
