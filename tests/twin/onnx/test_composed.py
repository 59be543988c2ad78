"""Operators that need more than one node to be seen, subgraphs and functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import AttributeProto, TensorProto, helper

from auditor.artifacts.onnx_load import to_ir
from auditor.twin.interface import NoTwin
from auditor.twin.onnx.network import OnnxTwin
from tests.twin.onnx.graphs import gap, graph, native, twin_of, worst

R = np.random.default_rng(2)
node = helper.make_node


def f(*shape: int) -> Any:
    return R.normal(size=shape).astype(np.float32)


def test_functions_on_a_restricted_domain() -> None:
    steps = ["Sigmoid", "Asin", "Acos", "Atanh", "Tan", "Reciprocal", "Sqrt", "Log", "Acosh"]
    nodes, at = [], "x"
    for index, name in enumerate(steps):
        nodes.append(node("Abs", [at], [f"a{index}"]))
        nodes.append(node("Sigmoid", [f"a{index}"], [f"s{index}"]))
        source = f"s{index}"
        if name == "Acosh":
            nodes.append(node("Exp", [source], ["e"]))
            source = "e"
        nodes.append(node(name, [source], [f"y{index}"]))
        at = f"y{index}"
    assert gap(graph(nodes, [None, 6], [at]), f(3, 6)) < 1e-5


@pytest.mark.parametrize("name", ["And", "Or", "Xor"])
def test_logic_chooses_and_the_gradient_follows_the_choice(name: str) -> None:
    nodes = [
        node("Greater", ["x", "z"], ["p"]),
        node("Less", ["x", "o"], ["q"]),
        node(name, ["p", "q"], ["c"]),
        node("Not", ["c"], ["n"]),
        node("Where", ["n", "x", "z"], ["y"]),
    ]
    proto = graph(nodes, [None, 6], ["y"], {"z": np.float32(0), "o": np.float32(0.5)})
    x = f(4, 6)
    assert gap(proto, x) < 1e-6
    image = torch.from_numpy(x).requires_grad_()
    y = twin_of(proto).run(image).outputs[0]
    (gradient,) = torch.autograd.grad(y.sum(), image)
    assert torch.equal(gradient != 0, y != 0)


def test_splits_and_top_k() -> None:
    nodes = [
        node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=3),
        node("Split", ["x", "s"], ["d", "e"], axis=1),
        node("TopK", ["x", "k"], ["v", "i"], axis=1),
        node("Concat", ["a", "c", "d", "e", "v"], ["y"], axis=1),
    ]
    constants = {"s": np.array([2, 5]), "k": np.array([3])}
    assert gap(graph(nodes, [None, 7], ["y"], constants), f(3, 7)) < 1e-6
    old = graph([node("Split", ["x"], ["a", "b"], axis=1, split=[2, 4])], [None, 6], ["b"], {}, 11)
    assert gap(old, f(3, 6)) < 1e-6


def test_constants_made_in_the_graph() -> None:
    nodes = [
        node("Constant", [], ["shape"], value_ints=[2, 6]),
        node("ConstantOfShape", ["shape"], ["zeros"]),
        node("Range", ["0", "6", "1"], ["range"]),
        node("EyeLike", ["zeros"], ["eye"], k=1),
        node("OneHot", ["range", "depth", "values"], ["hot"]),
        node("NonZero", ["values"], ["where"]),
        node("CastLike", ["where", "values"], ["at"]),
        node("ReduceSum", ["at"], ["sum"], keepdims=0),
        node("ReduceLogSum", ["hot", "one"], ["logs"], keepdims=0),
        node("BitwiseAnd", ["bits", "mask"], ["b1"]),
        node("BitwiseOr", ["b1", "one"], ["b2"]),
        node("BitwiseXor", ["b2", "mask"], ["b3"]),
        node("Cast", ["b3"], ["b4"], to=TensorProto.FLOAT),
        *[
            node("Add", [f"t{i}", name], [f"t{i + 1}"])
            for i, name in enumerate(["eye", "logs", "sum", "b4"])
        ],
    ]
    nodes.insert(0, node("Identity", ["x"], ["t0"]))
    constants = {
        **{str(i): np.array(i, np.int64) for i in (0, 1, 6)},
        "depth": np.array(6),
        "values": np.array([0.5, 2.0], np.float32),
        "one": np.array([1]),
        "bits": np.array([12]),
        "mask": np.array([10]),
    }
    assert gap(graph(nodes, [2, 6], ["t4"], constants), f(2, 6)) < 1e-5


def test_old_scatter_and_legacy_broadcast() -> None:
    scatter = [node("Scatter", ["x", "i", "u"], ["y"], axis=1)]
    constants = {"i": np.array([[1, 0]]), "u": f(1, 2)}
    assert gap(graph(scatter, [2, 6], ["y"], constants, 9), f(2, 6)) < 1e-6
    add = [node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)]
    bias = f(3)
    x = f(2, 3, 4, 4)
    ours = twin_of(graph(add, [2, 3, 4, 4], ["y"], {"b": bias}, 6)).run(torch.from_numpy(x))
    assert worst([x + bias.reshape(3, 1, 1)], ours.outputs) < 1e-6


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_attention(causal: int, masked: bool) -> None:
    inputs = ["x", "k", "v", *(["m"] if masked else [])]
    nodes = [
        node("Attention", inputs, ["y"], q_num_heads=4, kv_num_heads=2, is_causal=causal, scale=0.3)
    ]
    constants = {"k": f(2, 6, 8), "v": f(2, 6, 8)}
    if masked:
        constants["m"] = f(6, 6)
    assert gap(graph(nodes, [2, 6, 16], ["y"], constants, 23), f(2, 6, 16)) < 1e-5


def test_skip_layer_normalization_and_its_sum() -> None:
    nodes = [
        node(
            "SkipLayerNormalization", ["x", "s", "g", "b"], ["y", "", "", "t"],
            domain="com.microsoft", epsilon=1e-5,
        ),
        node("SimplifiedLayerNormalization", ["t", "g"], ["r"], axis=-1, epsilon=1e-5),
        node("Add", ["y", "r"], ["z"]),
    ]  # fmt: skip
    constants = {"s": f(1, 5, 8), "g": f(8), "b": f(8)}
    assert gap(graph(nodes, [1, 5, 8], ["z"], constants, 17), f(1, 5, 8)) < 1e-5


def test_max_pool_indices_and_layer_norm_statistics() -> None:
    nodes = [
        node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        node("LayerNormalization", ["p", "s"], ["n", "mean", "inv"], axis=-1),
        node("Add", ["c", "n"], ["a"]),
        node("Add", ["a", "mean"], ["b"]),
        node("Mul", ["b", "inv"], ["y"]),
    ]
    assert gap(graph(nodes, [2, 3, 6, 6], ["y"], {"s": f(3)}, 17), f(2, 3, 6, 6)) < 1e-5


def branch(name: str, nodes: list[Any], output: str) -> Any:
    info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [info])


def test_if_takes_the_branch_the_image_asks_for() -> None:
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "z"], ["c"]),
        node(
            "If", ["c"], ["y"],
            then_branch=branch("t", [node("Mul", ["x", "two"], ["ty"])], "ty"),
            else_branch=branch("e", [node("Neg", ["x"], ["ey"])], "ey"),
        ),
    ]  # fmt: skip
    proto = graph(nodes, [2, 3], ["y"], {"z": np.float32(0), "two": f(1)})
    x = np.abs(f(2, 3))
    assert gap(proto, x) < 1e-6
    assert gap(proto, -x) < 1e-6


def test_if_on_a_stored_condition_is_replaced_by_its_branch() -> None:
    """As traced checks leave behind: the layers inside are layers like any other."""
    then = branch("t", [node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"], ["ty"])], "ty")
    other = branch("e", [node("Neg", ["x"], ["ey"])], "ey")
    nodes = [
        node("Size", ["w"], ["n"]),
        node("Greater", ["n", "five"], ["c"]),
        node("If", ["c"], ["b"], then_branch=then, else_branch=other),
        node("Gemm", ["b", "v"], ["y"]),
    ]
    constants = {"w": f(3, 4), "v": f(4, 2), "five": np.array(5)}
    proto = graph(nodes, ["N", 3], ["y"], constants)
    assert gap(proto, f(5, 3)) < 1e-6
    layers = twin_of(proto).layers
    assert [layer.kind for layer in layers] == ["dense", "activation", "dense"]
    assert [layer.weight for layer in layers] == ["w", None, "v"]


def test_loop_carries_and_stacks() -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            node("Mul", ["v", "g"], ["v2"]),
            node("Add", ["v2", "x"], ["v3"]),
            node("Identity", ["v3"], ["scan"]),
            node("Identity", ["keep"], ["keep2"]),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("keep", TensorProto.BOOL, []),
            info("v", TensorProto.FLOAT, None),
        ],
        [
            info("keep2", TensorProto.BOOL, []),
            info("v3", TensorProto.FLOAT, None),
            info("scan", TensorProto.FLOAT, None),
        ],
    )
    loop = node("Loop", ["n", "go", "x"], ["last", "all"], body=body)
    constants = {"n": np.array(4), "go": np.array(True), "g": np.float32(0.5)}
    proto = graph([loop, node("ReduceSum", ["all", "a"], ["s"]), node("Add", ["last", "s"], ["y"])],
                  [2, 3], ["y"], {**constants, "a": np.array([0])})  # fmt: skip
    proto.graph.node[1].attribute.append(helper.make_attribute("keepdims", 0))
    x = f(2, 3)
    assert gap(proto, x) < 1e-5
    image = torch.from_numpy(x).requires_grad_()
    (gradient,) = torch.autograd.grad(twin_of(proto).run(image).outputs[0].sum(), image)
    assert (gradient > 0).all()


def test_an_endless_loop_is_refused() -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["k"], ["k2"]), node("Add", ["v", "v"], ["v2"])],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("k", TensorProto.BOOL, []),
            info("v", TensorProto.FLOAT, None),
        ],
        [info("k2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, None)],
    )
    loop = node("Loop", ["n", "go", "x"], ["y"], body=body)
    proto = graph([loop], [2, 3], ["y"], {"n": np.array(2**62), "go": np.array(True)})
    with pytest.raises(NoTwin, match="Loop"):
        twin_of(proto)


def test_local_functions_are_inlined_with_their_attributes(tmp_path: Any) -> None:
    body = [node("LeakyRelu", ["a"], ["h"]), node("Add", ["h", "b"], ["o"])]
    body[0].attribute.add(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "F", ["a", "b"], ["o"], body, opsets, ["slope"])
    nodes = [
        node("F", ["x", "c"], ["h"], domain="local", slope=0.3),
        node("F", ["h", "c"], ["y"], domain="local", slope=0.1),
    ]
    proto = graph(nodes, [None, 3], ["y"], {"c": f(3)}, 17, functions=[function])
    twin = OnnxTwin(to_ir(proto, tmp_path / "m.onnx"))
    x = f(4, 3)
    assert worst(native(proto, x), twin.run(torch.from_numpy(x)).outputs) < 1e-6
    assert set(twin.parameters) == {"c"}


def test_a_function_keeps_the_operator_set_it_was_written_for(tmp_path: Any) -> None:
    """Softmax meant something else before operator set 13."""
    opsets = [helper.make_opsetid("", 11)]
    body = [node("Softmax", ["a"], ["o"], axis=1)]
    function = helper.make_function("local", "F", ["a"], ["o"], body, opsets)
    nodes = [node("F", ["x"], ["y"], domain="local")]
    proto = graph(nodes, [2, 3, 4], ["y"], {}, 17, functions=[function])
    x = torch.from_numpy(f(2, 3, 4))
    y = OnnxTwin(to_ir(proto, tmp_path / "m.onnx")).run(x).outputs[0]
    assert torch.allclose(y, torch.softmax(x.flatten(1), 1).reshape(x.shape))


def test_unknown_operators_are_named() -> None:
    nodes = [
        node("Stealth", ["x"], ["h"], domain="com.evil"),
        node("NonMaxSuppression", ["h", "h"], ["y"]),
    ]
    with pytest.raises(NoTwin, match=r"NonMaxSuppression, com\.evil::Stealth"):
        twin_of(graph(nodes, [2, 3], ["y"]))


def test_more_than_one_input_is_named() -> None:
    proto = graph([node("Add", ["x", "z"], ["y"])], [2, 3], ["y"])
    proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3]))
    with pytest.raises(NoTwin, match=r"2 inputs \(x, z\)"):
        twin_of(proto)


def test_a_constant_the_size_of_the_memory_is_refused() -> None:
    nodes = [
        node("Constant", [], ["s"], value_ints=[1 << 20, 1 << 20]),
        node("ConstantOfShape", ["s"], ["c"]),
        node("ReduceMax", ["c"], ["m"]),
        node("Add", ["x", "m"], ["y"]),
    ]
    with pytest.raises(NoTwin, match="ConstantOfShape"):
        twin_of(graph(nodes, [2, 3], ["y"]))
