"""Any batch size, whatever batch size the file was written for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from auditor.twin.onnx.network import OnnxTwin
from tests.twin.onnx.graphs import gap, graph, native, twin_of

R = np.random.default_rng(5)
node = helper.make_node


def f(*shape: int) -> Any:
    return R.normal(size=shape).astype(np.float32)


def one_by_one(proto: onnx.ModelProto, x: Any) -> Any:
    return np.concatenate([native(proto, x[i : i + 1])[0] for i in range(len(x))])


def check(proto: onnx.ModelProto, x: Any, how: str) -> OnnxTwin:
    twin = twin_of(proto)
    image = torch.from_numpy(x).requires_grad_()
    result = twin.run(image)
    assert twin.batching == how
    assert np.allclose(one_by_one(proto, x), result.outputs[0].detach().numpy(), atol=1e-5)
    (gradient,) = torch.autograd.grad(result.logits.square().sum(), image)
    assert all(float(g.abs().max()) > 0 for g in gradient)
    return twin


def test_a_reshape_that_holds_the_batch_of_one_is_rewritten() -> None:
    nodes = [
        node("Reshape", ["x", "s"], ["h"]),
        node("Gemm", ["h", "w"], ["y"]),
    ]
    constants = {"s": np.array([1, 12]), "w": f(12, 4)}
    twin = check(graph(nodes, [1, 3, 4], ["y"], constants), f(5, 3, 4), "direct")
    assert [layer.shape for layer in twin.layers] == [(12,), (4,)]


def test_windows_scale_with_the_batch() -> None:
    """As in Swin: the first size is the batch times the number of windows."""
    nodes = [
        node("Reshape", ["x", "s"], ["w"]),
        node("Softmax", ["w"], ["a"], axis=-1),
        node("Reshape", ["a", "t"], ["y"]),
    ]
    constants = {"s": np.array([4, 2, 3]), "t": np.array([1, 24])}
    check(graph(nodes, [1, 4, 2, 3], ["y"], constants), f(3, 4, 2, 3), "direct")


def test_a_class_token_of_one_is_repeated() -> None:
    nodes = [
        node("Concat", ["token", "x"], ["h"], axis=1),
        node("Gather", ["h", "zero"], ["a"], axis=1),
        node("ReduceMean", ["h"], ["m"], axes=[1], keepdims=0),
        node("Add", ["a", "m"], ["y"]),
    ]
    constants = {"token": f(1, 1, 6), "zero": np.array(0)}
    check(graph(nodes, [1, 3, 6], ["y"], constants, 13), f(4, 3, 6), "direct")


def test_a_batch_axis_in_the_middle_is_mapped_over_samples() -> None:
    """Attention in sequence-first order bakes the batch into the second axis."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("Reshape", ["t", "s"], ["h"]),
        node("ReduceMax", ["h"], ["m"], axes=[0], keepdims=0),
        node("Reshape", ["m", "r"], ["y"]),
    ]
    constants = {"s": np.array([3, 2, 3]), "r": np.array([1, 6])}
    check(graph(nodes, [1, 3, 6], ["y"], constants, 13), f(4, 3, 6), "vmap")


def test_control_flow_on_the_image_is_looped() -> None:
    info = helper.make_tensor_value_info("o", 1, None)
    then = helper.make_graph([node("Mul", ["x", "g"], ["o"])], "t", [], [info])
    other = helper.make_graph([node("Neg", ["x"], ["o"])], "e", [], [info])
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "z"], ["c"]),
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    constants = {"z": np.float32(0), "g": f(1)}
    check(graph(nodes, [1, 3], ["y"], constants), f(6, 3), "loop")


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_fixed_batch_of_four_takes_any_number(count: int) -> None:
    nodes = [node("Reshape", ["x", "s"], ["h"]), node("Gemm", ["h", "w"], ["y"])]
    constants = {"s": np.array([4, 6]), "w": f(6, 3)}
    proto = graph(nodes, [4, 2, 3], ["y"], constants)
    twin, x = twin_of(proto), f(count, 2, 3)
    padded = np.concatenate([x, np.zeros((12 - count, 2, 3), np.float32)])
    wanted = np.concatenate([native(proto, padded[i : i + 4])[0] for i in (0, 4, 8)])[:count]
    assert np.allclose(wanted, twin.run(torch.from_numpy(x)).outputs[0], atol=1e-5)


def test_shapes_computed_from_the_image_follow_its_size() -> None:
    """Shape arithmetic is kept per input shape; another size must not meet the old one."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "z", "o"], ["n"]),
        node("Concat", ["n", "m"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    constants = {"z": np.array([0]), "o": np.array([1]), "m": np.array([-1])}
    proto = graph(nodes, ["N", 2, "H"], ["y"], constants)
    twin = twin_of(proto)
    for count, side in ((2, 3), (5, 4), (2, 3), (1, 7)):
        x = f(count, 2, side)
        for _ in range(2):
            assert np.array_equal(native(proto, x)[0], twin.run(torch.from_numpy(x)).outputs[0])


def test_dynamic_batch_with_unknown_sides() -> None:
    nodes = [node("Conv", ["x", "w"], ["h"]), node("GlobalAveragePool", ["h"], ["y"])]
    proto = graph(nodes, ["N", 3, "H", "W"], ["y"], {"w": f(5, 3, 3, 3)})
    assert gap(proto, f(2, 3, 12, 9)) < 1e-5


def test_an_unbatched_graph_is_looped() -> None:
    nodes = [node("Flatten", ["x"], ["h"], axis=0), node("MatMul", ["h", "w"], ["y"])]
    proto = graph(nodes, [3, 4, 4], ["y"], {"w": f(48, 5)})
    x = f(6, 3, 4, 4)
    result = twin_of(proto).run(torch.from_numpy(x))
    wanted = np.stack([native(proto, sample)[0] for sample in x])
    assert np.allclose(wanted, result.outputs[0], atol=1e-5)
    assert result.logits.shape == (6, 5)
