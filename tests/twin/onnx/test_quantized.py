"""Quantized files: values against ONNX Runtime, gradients straight through."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.twin.onnx.graphs import graph, native, twin_of, worst

R = np.random.default_rng(1)
U8, S8 = np.uint8, np.int8


def f(*shape: int) -> Any:
    return R.normal(size=shape).astype(np.float32)


def s(value: float) -> Any:
    return np.array(value, dtype=np.float32)


def q(kind: Any, *shape: int) -> Any:
    info = np.iinfo(kind)
    return R.integers(info.min, info.max + 1, size=shape).astype(kind)


COMMON = {"xs": s(0.02), "xz": np.array(120, U8), "ys": s(0.05), "yz": np.array(110, U8)}


def quantized_graph(
    op: str, arguments: list[str], constants: dict[str, Any], attributes: dict[str, Any], shape: Any
) -> onnx.ModelProto:
    """x -> QuantizeLinear -> op -> DequantizeLinear."""
    domain, _, kind = op.rpartition("::")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node(kind, arguments, ["yq"], domain=domain, **attributes),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    return graph(nodes, shape, ["y"], {**COMMON, **constants}, 17)


W = {"w": q(S8, 4, 3, 3, 3), "ws": s(0.01), "wz": np.array(0, S8)}
CHANNEL = {
    "w": q(S8, 4, 3, 3, 3),
    "ws": np.array([0.01, 0.02, 0.005, 0.01], np.float32),
    "wz": np.zeros(4, S8),
    "b": R.integers(-500, 500, size=4).astype(np.int32),
}
DENSE = {"w": q(S8, 6, 5), "ws": s(0.01), "wz": np.array(0, S8)}
IMAGE, ROW = [2, 3, 7, 6], [3, 6]
CASES = [
    ("QLinearConv", "xq xs xz w ws wz ys yz", W, {"pads": [1] * 4}, IMAGE),
    ("QLinearConv", "xq xs xz w ws wz ys yz b", CHANNEL, {"strides": [2, 2]}, IMAGE),
    ("QLinearMatMul", "xq xs xz w ws wz ys yz", DENSE, {}, ROW),
    ("com.microsoft::QGemm", "xq xs xz w ws wz  ys yz", DENSE, {}, ROW),
    ("com.microsoft::QLinearAdd", "xq xs xz xq xs xz ys yz", {}, {}, ROW),
    ("com.microsoft::QLinearMul", "xq xs xz xq xs xz ys yz", {}, {}, ROW),
    ("com.microsoft::QLinearSigmoid", "xq xs xz ys yz", {}, {}, ROW),
    ("com.microsoft::QLinearLeakyRelu", "xq xs xz ys yz", {}, {"alpha": 0.1}, ROW),
    ("com.microsoft::QLinearGlobalAveragePool", "xq xs xz ys yz", {}, {"channels_last": 0}, IMAGE),
    (
        "com.microsoft::QLinearAveragePool",
        "xq xs xz ys yz",
        {},
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        IMAGE,
    ),
    ("com.microsoft::QLinearConcat", "ys yz xq xs xz xq xs xz", {}, {"axis": 1}, ROW),
    ("com.microsoft::QLinearSoftmax", "xq xs xz ys yz", {}, {"axis": -1, "opset": 13}, ROW),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_integer_operators_agree_within_one_step(case: tuple[Any, ...]) -> None:
    op, arguments, constants, attributes, shape = case
    proto = quantized_graph(op, arguments.split(" "), constants, attributes, shape)
    x = f(*shape)
    theirs = native(proto, x, optimised=False)[0]
    twin = twin_of(proto)
    image = torch.from_numpy(x).requires_grad_()
    ours = twin.run(image).outputs[0]
    steps = np.abs(theirs - ours.detach().numpy()) / float(COMMON["ys"])
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.05
    (gradient,) = torch.autograd.grad(ours.sum(), image)
    assert gradient.abs().max() > 0
    assert op in twin.without_gradient
    assert twin.reduced_precision


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_quantizing_and_back_is_exact_per_channel(domain: str) -> None:
    scale = np.array([0.1, 0.03, 0.2], np.float32)
    zero = np.array([3, 100, 250], U8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1, domain=domain),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1, domain=domain),
    ]
    proto = graph(nodes, [2, 3, 5, 5], ["y"], {"s": scale, "z": zero}, 17)
    x = 10 * f(2, 3, 5, 5)
    theirs = native(proto, x, optimised=False)
    image = torch.from_numpy(x).requires_grad_()
    ours = twin_of(proto).run(image).outputs
    assert worst(theirs, ours) < 1e-6
    (gradient,) = torch.autograd.grad(ours[0].sum(), image)
    saturated = (theirs[0] == theirs[0].max((0, 2, 3), keepdims=True)) | (
        theirs[0] == theirs[0].min((0, 2, 3), keepdims=True)
    )
    assert torch.allclose(gradient[~torch.from_numpy(saturated)], torch.ones(()))


def test_dynamic_quantization_of_a_dense_layer() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["r"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["ss"]),
        helper.make_node("Mul", ["r", "ss"], ["y"]),
    ]
    constants = {"w": q(S8, 6, 5), "wz": np.zeros(5, S8), "ws": np.abs(f(5))}
    proto = graph(nodes, ROW, ["y"], constants, 17)
    x = f(3, 6)
    image = torch.from_numpy(x).requires_grad_()
    ours = twin_of(proto).run(image).outputs
    assert worst(native(proto, x, optimised=False), ours) < 1e-5
    (gradient,) = torch.autograd.grad(ours[0][:, 0].sum(), image)
    real = (constants["w"][:, 0].astype(np.float32)) * constants["ws"][0]
    inner = gradient[0].numpy()
    assert np.corrcoef(inner, real)[0, 1] > 0.9


def test_integer_convolution() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("ConvInteger", ["xq", "w", "xz", "wz"], ["i"], pads=[1] * 4),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {**COMMON, "w": q(U8, 4, 3, 3, 3), "wz": np.array(128, U8)}
    proto = graph(nodes, IMAGE, ["y"], constants, 17)
    x = f(*IMAGE)
    ours = twin_of(proto).run(torch.from_numpy(x)).outputs
    assert worst(native(proto, x, optimised=False), ours) < 1e-5


def test_quantized_weight_is_folded_and_its_layer_still_dense() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        helper.make_node("Gemm", ["x", "wf"], ["y"]),
    ]
    proto = graph(nodes, [None, 6], ["y"], DENSE, 17)
    x = f(3, 6)
    twin = twin_of(proto)
    theirs = native(proto, x, optimised=False)  # optimised, it quantizes the input as well
    assert worst(theirs, twin.run(torch.from_numpy(x)).outputs) < 1e-5
    assert [layer.kind for layer in twin.layers] == ["dense"]
    assert twin.without_gradient == ()


def test_blockwise_scales() -> None:
    weight = numpy_helper.from_array(q(S8, 8, 4), "w")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wf"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "wf"], ["y"]),
    ]
    proto = graph(nodes, [None, 8], ["y"], {"ws": np.abs(f(2, 4))}, 21)
    proto.graph.initializer.append(weight)
    x = f(3, 8)
    theirs = native(proto, x, optimised=False)
    assert worst(theirs, twin_of(proto).run(torch.from_numpy(x)).outputs) < 1e-5
