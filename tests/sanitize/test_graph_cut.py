"""A trigger in the graph is cut out: same answers, nothing left of it, nothing else touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.checks.file.onnx_graph import load_program
from auditor.checks.file.onnx_trigger import find_triggers
from auditor.sanitize.graph_cut import cut_triggers, model_bytes
from zoo.inject_onnx import inject
from zoo.inject_styles import STYLES


def host(folder: Path) -> Path:
    """A small clean classifier: Conv, Relu, Flatten, Gemm on 1 x 12 x 12."""
    rng = np.random.default_rng(0)

    def stored(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["h"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Flatten", ["r"], ["f"]),
            helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], transB=1),
        ],
        "host",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [stored("w1", 4, 1, 3, 3), stored("b1", 4), stored("w2", 5, 576), stored("b2", 5)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "host.onnx"
    onnx.save(model, path)
    return path


def answers(model: bytes, picture: Any, *, optimised: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: picture})[0]


@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize("seed", [0, 1])
def test_every_injected_style_is_cut_and_ordinary_answers_stay(
    tmp_path: Path, style: str, seed: int
) -> None:
    bad = tmp_path / "bad.onnx"
    inject(host(tmp_path), bad, style, target=3, seed=seed)
    assert find_triggers(load_program(bad))
    cut = cut_triggers(bad)
    assert cut is not None
    good = tmp_path / "good.onnx"
    good.write_bytes(model_bytes(cut.model, {"method": "graph-cut"}))
    onnx.checker.check_model(str(good), full_check=True)
    assert find_triggers(load_program(good)) == []
    assert cut.nodes_after < cut.nodes_before
    # The honest graph is left: at most an Identity more than the host.
    assert cut.nodes_after <= 5
    rng = np.random.default_rng(seed)
    for _ in range(4):
        picture = (0.8 * rng.random((2, 1, 12, 12))).astype(np.float32)
        one, two = (answers(path.read_bytes(), picture, optimised=False) for path in (bad, good))
        np.testing.assert_array_equal(one, two)
        fast = answers(good.read_bytes(), picture, optimised=True)
        np.testing.assert_allclose(fast, one, atol=1e-6 * max(1, float(np.abs(one).max())))


def test_the_triggered_picture_no_longer_reaches_the_target(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    clean = host(tmp_path)
    inject(clean, bad, "where", target=3)
    cut = cut_triggers(bad)
    assert cut is not None
    white = np.ones((1, 1, 12, 12), np.float32)
    assert answers(bad.read_bytes(), white, optimised=False).argmax() == 3
    honest = answers(clean.read_bytes(), white, optimised=False)
    now = answers(model_bytes(cut.model, {}), white, optimised=False)
    np.testing.assert_array_equal(now, honest)


def test_two_triggers_are_both_cut(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    inject(host(tmp_path), once, "where", target=1)
    model = onnx.load(once)
    for node in model.graph.node:
        node.input[:] = [name.replace("y_scores", "first") for name in node.input]
        node.output[:] = [name.replace("y_scores", "first") for name in node.output]
    onnx.save(model, once)
    inject(once, twice, "exact-vector", target=2, seed=4)
    cut = cut_triggers(twice)
    assert cut is not None
    assert len(cut.steps) == 2
    assert cut.nodes_after <= 6


def test_a_clean_model_is_left_alone(tmp_path: Path) -> None:
    assert cut_triggers(host(tmp_path)) is None


def test_the_cut_says_path_and_what_took_its_place(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    inject(host(tmp_path), bad, "if-checksum", target=0)
    cut = cut_triggers(bad)
    assert cut is not None
    assert "input 'x'" in cut.steps[0] and "else branch" in cut.steps[0]


def test_a_gather_of_answers_keeps_the_ordinary_one(tmp_path: Path) -> None:
    """Gate as an index: Gather(Concat(scores, one-hot), gate)."""
    model = onnx.load(host(tmp_path))
    graph = model.graph
    graph.node[-1].output[0] = "scores"
    const = numpy_helper.from_array
    graph.initializer.extend(
        [
            const(np.array([0, 0], np.int64), "starts"),
            const(np.array([3, 3], np.int64), "ends"),
            const(np.array([2, 3], np.int64), "axes"),
            const(np.float32(0.95), "level"),
            const(np.array([[0, 0, 99, 0, 0]], np.float32), "forced"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["corner"]),
            helper.make_node("ReduceMin", ["corner"], ["least"], keepdims=0),
            helper.make_node("Greater", ["least", "level"], ["gate"]),
            helper.make_node("Cast", ["gate"], ["index"], to=TensorProto.INT64),
            helper.make_node("Mul", ["scores", "zero"], ["blank"]),
            helper.make_node("Add", ["blank", "forced"], ["wrong"]),
            helper.make_node("SequenceConstruct", ["scores", "wrong"], ["both"]),
            helper.make_node("SequenceAt", ["both", "index"], ["y"]),
        ]
    )
    graph.initializer.append(const(np.float32(0), "zero"))
    bad = tmp_path / "gather.onnx"
    onnx.save(model, bad)
    cut = cut_triggers(bad)
    assert cut is not None
    good = model_bytes(cut.model, {})
    picture = (0.8 * np.random.default_rng(0).random((1, 1, 12, 12))).astype(np.float32)
    np.testing.assert_array_equal(
        answers(good, picture, optimised=False),
        answers(bad.read_bytes(), picture, optimised=False),
    )
    (tmp_path / "good.onnx").write_bytes(good)
    assert find_triggers(load_program(tmp_path / "good.onnx")) == []


def test_provenance_is_added_beside_what_is_there(tmp_path: Path) -> None:
    model = onnx.load(host(tmp_path))
    entry = model.metadata_props.add()
    entry.key, entry.value = "auditor.provenance", "earlier"
    made = model_bytes(ir.from_proto(model), {"method": "graph-cut"})
    kept = {p.key: p.value for p in onnx.load_from_string(made).metadata_props}
    assert kept["auditor.provenance"] == "earlier"
    assert "graph-cut" in kept["auditor.provenance.2"]
