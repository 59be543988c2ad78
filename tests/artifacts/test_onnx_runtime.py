"""ONNX Runtime behind the interface: any batch size, old files, clear refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from auditor.artifacts.onnx import OnnxArtifact
from auditor.artifacts.onnx_runtime import OnnxRuntime
from auditor.errors import UnreadableArtifact, UnsupportedArtifact
from tests.twin.onnx.graphs import graph

R = np.random.default_rng(13)
node = helper.make_node
W = R.normal(size=(6, 3)).astype(np.float32)


def opened(folder: Path, proto: onnx.ModelProto) -> OnnxRuntime:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    runtime = OnnxArtifact(path).open_runtime()
    assert isinstance(runtime, OnnxRuntime)
    return runtime


def fixed(batch: Any, first: int) -> onnx.ModelProto:
    nodes = [node("Reshape", ["x", "s"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    return graph(nodes, [batch, 2, 3], ["y"], {"s": np.array([first, 6]), "w": W}, 17)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize(("batch", "first"), [(1, 1), (4, 4), ("N", -1), ("N", 1)])
def test_any_number_of_samples(tmp_path: Path, batch: Any, first: int, count: int) -> None:
    """The last case claims any batch size in its declaration, and holds one in a constant."""
    runtime = opened(tmp_path, fixed(batch, first))
    x = R.normal(size=(count, 2, 3)).astype(np.float32)
    for _ in range(2):
        (y,) = runtime.run(x)
        assert np.allclose(y, x.reshape(count, 6) @ W, atol=1e-5)


def test_unbatched_files_are_looped(tmp_path: Path) -> None:
    proto = graph([node("MatMul", ["x", "w"], ["y"])], [6], ["y"], {"w": W}, 17)
    x = R.normal(size=(5, 6)).astype(np.float32)
    assert np.allclose(opened(tmp_path, proto).run(x)[0], x @ W, atol=1e-5)


def test_integers_are_rounded_to(tmp_path: Path) -> None:
    nodes = [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    runtime = opened(tmp_path, graph(nodes, ["N", 3], ["y"], {}, 17, kind=TensorProto.UINT8))
    assert runtime.input.dtype == "uint8"
    (y,) = runtime.run(np.array([[0.6, 254.7, 300]], np.float32))
    assert y.tolist() == [[1, 255, 255]]


def test_the_input_is_the_one_that_is_no_initializer(tmp_path: Path) -> None:
    proto = graph([node("MatMul", ["x", "w"], ["y"])], ["N", 6], ["y"], {"w": W}, 17)
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 3]))
    assert opened(tmp_path, proto).input.name == "x"
    proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    with pytest.raises(UnsupportedArtifact, match="2 inputs"):
        _ = opened(tmp_path, proto).input


def test_files_older_than_the_runtime_are_raised(tmp_path: Path) -> None:
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], broadcast=1)]
    bias = np.ones(3, np.float32)
    proto = graph(nodes, [2, 6], ["y"], {"w": W, "b": bias}, 6)
    for name, shape in (("w", [6, 3]), ("b", [3])):
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3]))
    proto.ir_version = 3
    del proto.opset_import[1]
    runtime = opened(tmp_path, proto)
    x = R.normal(size=(2, 6)).astype(np.float32)
    assert "raised to" in runtime.notice
    assert np.allclose(runtime.run(x)[0], x @ W + 1, atol=1e-5)


def test_what_the_runtime_refuses_is_one_sentence(tmp_path: Path) -> None:
    proto = graph([node("Stealth", ["x"], ["y"], domain="com.evil")], ["N", 6], ["y"], {}, 17)
    with pytest.raises(UnreadableArtifact, match="ONNX Runtime refuses") as caught:
        opened(tmp_path, proto)
    assert "\n" not in str(caught.value)
    assert "Stealth" in str(caught.value)
