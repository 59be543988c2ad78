"""Parameters can be replaced functionally; layers, head, features and tail are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.twin.onnx.graphs import graph, native, twin_of

R = np.random.default_rng(7)
node = helper.make_node


def f(*shape: int) -> Any:
    return R.normal(size=shape).astype(np.float32)


def small_cnn(tail: list[Any] | None = None, output: str = "z") -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "cw", "cb"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["h"]),
        node("MatMul", ["h", "fw"], ["m"]),
        node("Add", ["m", "fb"], ["z"]),
        *(tail or []),
    ]
    constants = {"cw": f(4, 1, 3, 3), "cb": f(4), "fw": f(36, 5), "fb": f(5)}
    return graph(nodes, ["N", 1, 8, 8], [output], constants, 17)


def changed(proto: onnx.ModelProto, name: str, value: Any) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    return copy


@pytest.mark.parametrize("name", ["cw", "cb", "fw", "fb"])
def test_a_replaced_parameter_acts_in_this_call_only(name: str) -> None:
    proto, x = small_cnn(), f(3, 1, 8, 8)
    twin = twin_of(proto)
    before = twin.run(torch.from_numpy(x)).outputs[0]
    other = twin.parameters[name].numpy() + f(*twin.parameters[name].shape)
    replacement = torch.from_numpy(other).requires_grad_()
    after = twin.run(torch.from_numpy(x), parameters={name: replacement}).outputs[0]
    wanted = native(changed(proto, name, other), x)[0]
    assert np.allclose(wanted, after.detach().numpy(), atol=1e-4)
    assert torch.equal(before, twin.run(torch.from_numpy(x)).outputs[0])
    (gradient,) = torch.autograd.grad(after.square().sum(), replacement)
    assert gradient.shape == replacement.shape
    assert gradient.abs().max() > 0


def test_unknown_or_misshapen_replacements_are_refused() -> None:
    twin = twin_of(small_cnn())
    with pytest.raises(KeyError):
        twin.run(torch.zeros(1, 1, 8, 8), parameters={"nope": torch.zeros(1)})
    with pytest.raises(KeyError):
        twin.run(torch.zeros(1, 1, 8, 8), wanted=["nope"])
    with pytest.raises(ValueError, match="'cb'"):
        twin.run(torch.zeros(1, 1, 8, 8), parameters={"cb": torch.zeros(7)})


def derived_weight() -> onnx.ModelProto:
    """The weight reaches its Gemm through Cast, Transpose, Identity, QDQ and a scale."""
    nodes = [
        node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        node("Identity", ["wt"], ["wi"]),
        node("Cast", ["wi"], ["wc"], to=TensorProto.FLOAT),
        node("QuantizeLinear", ["wc", "s", "z"], ["wq"]),
        node("DequantizeLinear", ["wq", "s", "z"], ["wd"]),
        node("Gemm", ["x", "wd"], ["y"], transB=1),
    ]
    constants = {"w": f(6, 4), "s": np.float32(0.03), "z": np.array(0, np.int8)}
    return graph(nodes, [None, 6], ["y"], constants, 17)


def test_a_weight_behind_other_operators_can_be_replaced_and_is_named() -> None:
    proto, x = derived_weight(), f(3, 6)
    twin = twin_of(proto)
    (layer,) = twin.layers
    assert (layer.kind, layer.weight, layer.weight_axis) == ("dense", "w", 1)
    other = torch.from_numpy(f(6, 4)).requires_grad_()
    after = twin.run(torch.from_numpy(x), parameters={"w": other}).outputs[0]
    wanted = native(changed(proto, "w", other.detach().numpy()), x, optimised=False)[0]
    assert np.allclose(wanted, after.detach().numpy(), atol=1e-4)
    (gradient,) = torch.autograd.grad(after.sum(), other)
    assert gradient.abs().max() > 0


def test_layers_name_their_weights_axes_and_sources() -> None:
    twin = twin_of(small_cnn())
    found = {layer.name: layer for layer in twin.layers}
    kinds = ["conv", "activation", "pool", "other", "dense", "dense"]
    assert [layer.kind for layer in twin.layers] == kinds
    conv, dense = found["c"], found["z"]
    assert (conv.weight, conv.bias, conv.weight_axis, conv.shape) == ("cw", "cb", 0, (4, 6, 6))
    assert (dense.weight, dense.bias, dense.weight_axis) == ("fw", "fb", 1)
    assert [found[name].source for name in "rph"] == ["c", "r", "p"]
    assert (conv.channel_axis, dense.channel_axis) == (1, 1)
    assert twin.head is dense
    assert twin.features == "h"
    assert twin.tail == "logits"


def test_zeroing_an_output_channel_of_the_weight_silences_that_channel() -> None:
    twin = twin_of(small_cnn())
    x = torch.from_numpy(f(2, 1, 8, 8))
    for layer in (layer for layer in twin.layers if layer.weight and layer.bias):
        assert layer.weight_axis is not None
        assert layer.weight
        assert layer.bias
        weight, bias = twin.parameters[layer.weight].clone(), twin.parameters[layer.bias].clone()
        weight.select(layer.weight_axis, 2).zero_()
        bias[2] = 0
        run = twin.run(x, wanted=[layer.name], parameters={layer.weight: weight, layer.bias: bias})
        value = run.values[layer.name]
        assert value.select(layer.channel_axis, 2).abs().max() == 0
        assert value.abs().max() > 0


def test_wanted_values_carry_gradients_and_match_their_shapes() -> None:
    twin = twin_of(small_cnn())
    image = torch.from_numpy(f(3, 1, 8, 8)).requires_grad_()
    names = [layer.name for layer in twin.layers]
    for _ in range(2):
        run = twin.run(image, wanted=names)
        for layer in twin.layers:
            assert run.values[layer.name].shape == (3, *layer.shape)
        (gradient,) = torch.autograd.grad(run.values["r"].sum(), image)
        assert gradient.abs().max() > 0
    (inner,) = torch.autograd.grad(run.logits[:, 0].sum(), run.values["h"])
    assert inner.shape == (3, 36)


TAILS = {
    "softmax": [node("Softmax", ["z"], ["y"], axis=1)],
    "log-softmax": [node("LogSoftmax", ["z"], ["y"], axis=-1)],
    "sigmoid": [node("Sigmoid", ["z"], ["y"])],
    "softmax behind shapes": [
        node("Softmax", ["z"], ["s"], axis=-1),
        node("Unsqueeze", ["s", "axes"], ["u"]),
        node("Flatten", ["u"], ["l"]),
        node("Identity", ["l"], ["y"]),
    ],
    "logarithm of softmax": [
        node("Softmax", ["z"], ["s"], axis=-1),
        node("Log", ["s"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", TAILS)
def test_logits_are_recovered_from_before_the_tail(name: str) -> None:
    proto = small_cnn(TAILS[name], "y")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2]), "axes"))
    twin = twin_of(proto)
    run = twin.run(torch.from_numpy(f(4, 1, 8, 8)), wanted=["z"])
    tail = {"softmax behind shapes": "softmax", "logarithm of softmax": "log-softmax"}
    assert twin.tail == tail.get(name, name)
    assert torch.equal(run.logits, run.values["z"])
    assert twin.head is not None
    assert twin.head.name == "z"


def test_a_relu_tail_is_told_and_its_output_kept() -> None:
    twin = twin_of(small_cnn([node("Relu", ["z"], ["y"])], "y"))
    run = twin.run(torch.from_numpy(f(4, 1, 8, 8)))
    assert twin.tail == "relu"
    assert torch.equal(run.logits, run.outputs[0])
    assert twin.features == "h"


def test_scores_of_a_convolutional_head_are_flattened() -> None:
    nodes = [
        node("Conv", ["x", "a"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "b"], ["s"]),
        node("GlobalAveragePool", ["s"], ["g"]),
        node("Softmax", ["g"], ["y"], axis=1),
    ]
    proto = graph(nodes, ["N", 3, 8, 8], ["y"], {"a": f(6, 3, 3, 3), "b": f(10, 6, 1, 1)}, 17)
    twin = twin_of(proto)
    run = twin.run(torch.from_numpy(f(4, 3, 8, 8)))
    assert run.outputs[0].shape == (4, 10, 1, 1)
    assert run.logits.shape == (4, 10)
    assert twin.tail == "softmax"
    assert twin.head is not None
    assert (twin.head.name, twin.head.weight) == ("s", "b")
    assert twin.features == "r"


def test_the_scores_are_found_among_several_outputs() -> None:
    proto = small_cnn()
    proto.graph.output.insert(0, helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    twin = twin_of(proto)
    run = twin.run(torch.from_numpy(f(2, 1, 8, 8)))
    assert [tuple(o.shape) for o in run.outputs] == [(2, 4, 6, 6), (2, 5)]
    assert run.logits.shape == (2, 5)


def test_channels_last_values_keep_their_channel_axis() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"]),
        node("Transpose", ["c"], ["l"], perm=[0, 2, 3, 1]),
        node("Relu", ["l"], ["y"]),
    ]
    twin = twin_of(graph(nodes, ["N", 8, 8, 3], ["y"], {"w": f(5, 3, 3, 3)}, 17))
    axes = {layer.name: (layer.channel_axis, layer.shape) for layer in twin.layers}
    assert axes["c"] == (1, (5, 6, 6))
    assert axes["l"] == axes["y"] == (3, (6, 6, 5))


@pytest.mark.parametrize("stored", [np.float16, np.float64])
def test_other_float_types_are_exposed_and_computed_as_float32(stored: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(stored))
    nodes = [
        node("Cast", ["x"], ["h"], to=kind),
        node("Gemm", ["h", "w"], ["g"]),
        node("Cast", ["g"], ["y"], to=TensorProto.FLOAT),
    ]
    proto = graph(nodes, [None, 6], ["y"], {"w": f(6, 4).astype(stored)}, 17)
    twin, x = twin_of(proto), f(3, 6)
    assert twin.parameters["w"].dtype == torch.float32
    assert twin.to(torch.float64).parameters["w"].dtype == torch.float64
    assert twin.reduced_precision == (stored is np.float16)
    ours = twin.run(torch.from_numpy(x)).outputs[0].numpy()
    assert np.abs(native(proto, x)[0] - ours).max() < (2e-2 if stored is np.float16 else 1e-5)


def test_weights_in_constant_nodes_and_made_by_constant_of_shape_are_parameters() -> None:
    nodes = [
        node("Constant", [], ["w"], value=numpy_helper.from_array(f(6, 4), "anything")),
        node("ConstantOfShape", ["s"], ["b"], value=helper.make_tensor("v", 1, [1], [0.5])),
        node("Gemm", ["x", "w", "b"], ["y"]),
    ]
    proto = graph(nodes, [None, 6], ["y"], {"s": np.array([4])}, 17)
    twin = twin_of(proto)
    assert set(twin.parameters) == {"w", "b"}
    assert (twin.layers[0].weight, twin.layers[0].bias) == ("w", "b")
    x = torch.from_numpy(f(2, 6))
    shifted = twin.run(x, parameters={"b": twin.parameters["b"] + 1}).outputs[0]
    assert torch.allclose(shifted, twin.run(x).outputs[0] + 1)
