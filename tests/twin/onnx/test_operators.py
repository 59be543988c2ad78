"""Every operator against ONNX Runtime, option by option, as `operator_cases` lists them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from auditor.twin.onnx.registry import load_operators
from tests.twin.onnx.graphs import gap, graph
from tests.twin.onnx.operator_cases import CASES, f

# Compared in test_composed.py, test_quantized.py and test_exports.py, where one node does not do.
ELSEWHERE = set(
    [
        "Acos",
        "Acosh",
        "And",
        "Asin",
        "Atanh",
        "Attention",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "CastLike",
        "Constant",
        "ConstantOfShape",
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "EyeLike",
        "Log",
        "MatMulInteger",
        "NonZero",
        "Not",
        "OneHot",
        "Or",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
        "Range",
        "Reciprocal",
        "ReduceLogSum",
        "Scatter",
        "SimplifiedLayerNormalization",
        "Split",
        "Sqrt",
        "Tan",
        "TopK",
        "Where",
        "Xor",
        "com.microsoft::DequantizeLinear",
        "com.microsoft::QGemm",
        "com.microsoft::QLinearAdd",
        "com.microsoft::QLinearAveragePool",
        "com.microsoft::QLinearConcat",
        "com.microsoft::QLinearGlobalAveragePool",
        "com.microsoft::QLinearLeakyRelu",
        "com.microsoft::QLinearMul",
        "com.microsoft::QLinearSigmoid",
        "com.microsoft::QLinearSoftmax",
        "com.microsoft::QuantizeLinear",
        "com.microsoft::SkipLayerNormalization",
    ]
)

_BOOL = {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "IsNaN", "IsInf"}
_INT = {"Shape", "Size", "ArgMax", "ArgMin"}


def _output_kind(name: str, attributes: dict[str, Any]) -> int:
    if name in _BOOL:
        return TensorProto.BOOL
    if name in _INT:
        return TensorProto.INT64
    return int(attributes.get("to", TensorProto.FLOAT))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[4]}-{'-'.join(c[3])}")
def test_agrees_with_onnx_runtime(case: tuple[Any, ...]) -> None:
    name, shape, constants, attributes, opset = case
    domain, _, kind = name.rpartition("::")
    arguments = ["x", *("" if value is None else key for key, value in constants.items())]
    node = helper.make_node(kind, arguments, ["y"], name="n", domain=domain, **attributes)
    stored = {key: np.asarray(value) for key, value in constants.items() if value is not None}
    output = _output_kind(name, attributes)
    proto = graph([node], shape, ["y"], stored, opset, output_kind=output)
    x = f(*(2 if size is None else size for size in shape))
    assert gap(proto, x) < 1e-5


def test_every_operator_is_compared_here_or_named_as_tested_elsewhere() -> None:
    compared = {case[0] for case in CASES}
    assert set(load_operators()) - compared == ELSEWHERE
