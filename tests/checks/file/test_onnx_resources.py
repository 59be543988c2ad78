"""Resource bombs and foreign operators, and the honest graphs that resemble them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from auditor.checks.file import onnx_operators, onnx_resources
from tests.checks.file.onnx_builder import I64, Net
from tests.checks.file.onnx_helpers import serious

ONLY = (onnx_resources,)
info = helper.make_tensor_value_info


def rules(path, modules=ONLY):
    return {item.rule for item in serious(path, modules)}


def loop(net, trips, start, nodes, extra=(), more_in=(), more_out=()):
    body = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["lv"], ["lo"])],
        "b",
        [
            info("li", TensorProto.INT64, []),
            info("lc", TensorProto.BOOL, []),
            *more_in,
            info("lv", 1, None),
        ],
        [info("ld", TensorProto.BOOL, []), *more_out, info("lo", 1, None)],
    )
    result = net.op("Loop", trips, start, *extra, net.scores(), n=1 + len(more_out), body=body)
    return result if isinstance(result, str) else result[-1]


KEEP = [helper.make_node("Identity", ["lc"], ["ld"])]


@pytest.mark.parametrize(("count", "hit"), [(1 << 62, True), (1 << 31, True), (100, False)])
def test_constant_trip_counts(count, hit, tmp_path):
    net = Net()
    out = loop(net, net.i(count), net.c(True, np.bool_), KEEP)
    assert rules(net.save(tmp_path / "m.onnx", out)) == ({"resource.loop"} if hit else set())


def counter(limit, step):
    one = helper.make_tensor("one", TensorProto.INT64, [], [step])
    end = helper.make_tensor("end", TensorProto.INT64, [], [limit])
    return [
        helper.make_node("Constant", [], ["k1"], value=one),
        helper.make_node("Constant", [], ["k2"], value=end),
        helper.make_node("Add", ["n", "k1"], ["n2"]),
        helper.make_node("Less", ["n2", "k2"], ["ld"]),
    ]


@pytest.mark.parametrize(("step", "hit"), [(1, False), (0, True)])
def test_while_loop_ends_or_does_not(step, hit, tmp_path):
    net = Net()
    out = loop(
        net,
        net.i((1 << 63) - 1),
        net.c(True, np.bool_),
        counter(50, step),
        extra=(net.i(0),),
        more_in=(info("n", TensorProto.INT64, []),),
        more_out=(info("n2", TensorProto.INT64, []),),
    )
    assert rules(net.save(tmp_path / "m.onnx", out)) == ({"resource.loop"} if hit else set())


def test_trip_count_from_the_picture(tmp_path):
    net = Net()
    total = net.op("ReduceSum", net.scale(net.x, 1e12), keepdims=0)
    out = loop(net, net.op("Cast", total, to=TensorProto.INT64), net.c(True, np.bool_), KEEP)
    assert "resource.gated" in rules(net.save(tmp_path / "m.onnx", out))


def _range(net):
    return net.op("Range", net.c(0.0), net.op("Mul", net.c(65536.0), net.c(65536.0)), net.c(1.0))


def _tile(net):
    return net.op("Tile", net.scores(), net.i([1 << 20, 1 << 20]))


def _expand(net):
    return net.op("Expand", net.c(1.0), net.i([1 << 17, 1 << 17]))


def _constant_of_shape(net):
    return net.op("ConstantOfShape", net.op("Mul", net.i([70000, 70000]), net.i([1, 1])))


def _doubling(net):
    value = net.scores()
    for _ in range(40):
        value = net.op("Concat", value, value, axis=1)
    return value


def _outer(net):
    return net.op(
        "Mul",
        net.op("Expand", net.c(1.0), net.i([200_000, 1])),
        net.op("Expand", net.c(1.0), net.i([1, 200_000])),
    )


@pytest.mark.parametrize("make", [_range, _tile, _expand, _constant_of_shape, _doubling, _outer])
def test_huge_values(make, tmp_path):
    net = Net()
    assert "resource.size" in rules(net.save(tmp_path / "m.onnx", make(net)))


def test_range_from_the_picture_and_from_a_shape(tmp_path):
    net = Net()
    total = net.op("ReduceSum", net.op("Exp", net.x), keepdims=0)
    out = net.op("Range", net.c(0.0), total, net.c(1.0))
    assert "resource.gated" in rules(net.save(tmp_path / "m.onnx", out))
    net = Net()
    size = net.op("Gather", net.op("Shape", net.x), net.i(0))
    assert rules(net.save(tmp_path / "n.onnx", net.op("Range", net.i(0), size, net.i(1)))) == set()


def test_deep_nesting(tmp_path):
    def nested(levels):
        inner = [helper.make_node("Identity", ["s"], ["o0"])]
        for level in range(levels):
            graph = helper.make_graph(inner, "g", [], [info(f"o{level}", 1, None)])
            inner = [
                helper.make_node(
                    "If", ["t"], [f"o{level + 1}"], then_branch=graph, else_branch=graph
                )
            ]
        return inner

    for levels, hit in ((3, False), (10, False)):
        net = Net()
        scores = net.scores()
        net.nodes.append(helper.make_node("Identity", [scores], ["s"]))
        net.nodes.append(helper.make_node("Identity", [net.c(True, np.bool_)], ["t"]))
        net.nodes += nested(levels)
        found = rules(net.save(tmp_path / "m.onnx", f"o{levels}"))
        assert ("resource.nesting" in found) == hit


def test_functions_that_multiply_or_recurse(tmp_path):
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for recursive in (False, True):
        net = Net()
        for level in range(25):
            to = "F24" if recursive and level == 0 else f"F{level - 1}"
            body = [helper.make_node("Identity", ["a"], ["b"])]
            if level or recursive:
                body = [
                    helper.make_node(to, ["a"], ["m"], domain="local"),
                    helper.make_node(to, ["m"], ["b"], domain="local"),
                ]
            net.functions.append(
                helper.make_function("local", f"F{level}", ["a"], ["b"], body, imports)
            )
        net.nodes.append(helper.make_node("F24", [net.scores()], ["out"], domain="local"))
        assert "resource.functions" in rules(net.save(tmp_path / "m.onnx", "out"))


def _with_operator(tmp_path, domain, op, **attrs):
    net = Net()
    model = net.model(net.op(op, net.scores(), domain=domain, **attrs))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize(
    ("domain", "op", "rule"),
    [
        ("ai.onnx.contrib", "PyOp", "operator.python"),
        ("com.microsoft", "PythonOp", "operator.python"),
        ("org.example", "Mystery", "operator.unknown-domain"),
        ("com.microsoft", "EPContext", "operator.compiled"),
        ("com.microsoft", "Gelu", None),
        ("ai.onnx.ml", "Normalizer", None),
        ("ai.onnx.preview.training", "Adam", None),
        ("ai.onnx.contrib", "BertTokenizer", None),
    ],
)
def test_operators_by_domain(domain, op, rule, tmp_path):
    found = serious(_with_operator(tmp_path, domain, op), (onnx_operators,))
    assert {item.rule for item in found} == ({rule} if rule else set())
    assert all(item.blocks_run == (rule == "operator.python") for item in found)


__all__ = ["I64"]
