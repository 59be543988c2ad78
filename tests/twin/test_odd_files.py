"""Files as suppliers ship them that once were read wrongly: sizes, orders, types, training mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from auditor.artifacts.onnx import OnnxArtifact
from auditor.artifacts.open import open_artifact
from auditor.child import inspect
from auditor.errors import UnreadableArtifact
from auditor.twin.parity import check_parity
from tests.twin.onnx.graphs import graph
from tests.twin.torch_checks import save_frozen_script, save_scripted, save_traced

node = helper.make_node
R = np.random.default_rng(5)


class Small(nn.Module):
    """Two convolutions and a dense layer for 8x8 grey images; `before` reshapes the input."""

    def __init__(self, before: str = "") -> None:
        super().__init__()
        self.before = before
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.before == "view":
            x = x.view(-1, 1, 8, 8)
        if self.before == "permute":
            x = x.permute(0, 3, 1, 2)
        x = torch.max_pool2d(torch.relu(self.a(x)), 2)
        x = torch.max_pool2d(torch.relu(self.b(x)), 2)
        return self.head(self.drop(x.flatten(1)))


def inspected(path: Path) -> dict[str, Any]:
    """What ``audit inspect`` learns in the child."""
    return inspect.run({"path": str(path), "threads": 1}, {}, lambda *_: None)[0]


@pytest.mark.parametrize(
    ("before", "save", "shape"),
    [
        ("", save_frozen_script, (1, 8, 8)),
        ("view", save_scripted, (1, 8, 8)),
        ("permute", save_scripted, (8, 8, 1)),
        ("permute", save_traced, (8, 8, 1)),
    ],
    ids=["frozen", "view", "NHWC scripted", "NHWC traced"],
)
def test_the_size_that_gives_one_row_per_image_is_found(
    tmp_path: Path, before: str, save: Any, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, *shape)
    path = save(Small(before).eval(), x, tmp_path / "m.pt")
    found = inspected(path)
    assert found["classifier"], found
    assert found["classes"] == 10
    assert found["twin"]["agrees"]
    assert tuple(open_artifact(path).open_twin().sample_shape) == shape


def test_a_trace_left_in_training_mode_is_called_random(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = save_traced(Small().train(), torch.rand(2, 1, 8, 8), tmp_path / "m.pt")
    found = inspected(path)
    assert found["classifier"]
    assert "differently each time" in found["reason"]


def converted(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    constants = {
        "w": R.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "v": R.normal(size=(144, 10)).astype(np.float32),
        "k": np.float32(255),
    }
    return graph(nodes, ["N", 1, 8, 8], ["y"], constants, 13)


def test_nodes_in_any_order_are_sorted(tmp_path: Path) -> None:
    nodes = [
        node("Gemm", ["f", "v"], ["y"]),
        node("Flatten", ["r"], ["f"]),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["x", "w"], ["c"]),
    ]
    onnx.save(converted(nodes), tmp_path / "m.onnx")
    artifact = OnnxArtifact(tmp_path / "m.onnx")
    batch = R.random((3, 1, 8, 8)).astype(np.float32)
    twin = artifact.open_twin()
    assert check_parity(artifact.open_runtime(), twin, batch).agrees
    assert [layer.kind for layer in twin.layers] == ["conv", "activation", "other", "dense"]


def test_a_graph_that_feeds_itself_is_unreadable(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["y"])]
    onnx.save(graph(nodes, ["N", 4], ["y"], {}, 13), tmp_path / "m.onnx")
    with pytest.raises(UnreadableArtifact, match="not a valid ONNX model") as caught:
        OnnxArtifact(tmp_path / "m.onnx").describe()
    assert "\n" not in str(caught.value)


def test_integer_pixels_are_rounded_with_gradients_straight_through(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["x"], ["z"], to=TensorProto.FLOAT),
        node("Div", ["z", "k"], ["d"]),
        node("Conv", ["d", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "v"], ["y"]),
    ]
    proto = converted(nodes)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(proto, tmp_path / "m.onnx")
    artifact = OnnxArtifact(tmp_path / "m.onnx")
    twin = artifact.open_twin()
    batch = (R.random((3, 1, 8, 8)) * 300 - 20).astype(np.float32)  # beyond both ends too
    assert check_parity(artifact.open_runtime(), twin, batch).agrees
    image = torch.from_numpy(batch).requires_grad_()
    (gradient,) = torch.autograd.grad(twin.run(image).logits[:, 1].sum(), image)
    assert float(gradient.abs().max()) > 0
    found = inspected(tmp_path / "m.onnx")
    assert "0..255" in found["input"]
    assert found["twin"]["agrees"]


def test_token_ids_are_not_pixels(tmp_path: Path) -> None:
    nodes = [node("Gather", ["e", "x"], ["g"]), node("ReduceMean", ["g"], ["y"], axes=[1])]
    table = {"e": R.normal(size=(50, 6)).astype(np.float32)}
    kind = TensorProto.INT64
    onnx.save(graph(nodes, ["N", 12], ["y"], table, 13, kind=kind), tmp_path / "m.onnx")
    found = inspected(tmp_path / "m.onnx")
    assert not found["classifier"]
    assert "token ids" in found["reason"]


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.DOUBLE], ids=["bf16", "double"])
def test_types_without_kernels_run_in_float32_and_say_so(tmp_path: Path, kind: int) -> None:
    nodes = [
        node("Cast", ["x"], ["z"], to=kind),
        node("Conv", ["z", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "v"], ["g"]),
        node("Cast", ["g"], ["y"], to=TensorProto.FLOAT),
    ]
    proto = converted(nodes)
    proto.opset_import[0].version = 17
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(dtype), tensor.name))
    onnx.save(proto, tmp_path / "m.onnx")
    artifact = OnnxArtifact(tmp_path / "m.onnx")
    runtime, twin = artifact.open_runtime(), artifact.open_twin()
    assert "float32" in runtime.notice
    batch = R.random((3, 1, 8, 8)).astype(np.float32)
    parity = check_parity(runtime, twin, batch, tolerance=1e-4)
    assert parity.agrees, parity
    assert inspected(tmp_path / "m.onnx")["notice"] == runtime.notice
    new = np.zeros((144, 10), np.float32)
    artifact.write(tmp_path / "n.onnx", {"v": new}, {"method": "test"})
    written = onnx.load(tmp_path / "n.onnx").graph.initializer
    assert {t.data_type for t in written if t.name == "v"} == {kind}


def test_old_batch_norm_with_all_outputs_uses_the_batch(tmp_path: Path) -> None:
    parts = {name: R.random(4).astype(np.float32) + 0.5 for name in ("s", "b", "m", "u")}
    outputs = ["n", "mean", "var", "saved_mean", "saved_var"]
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("BatchNormalization", ["c", "s", "b", "m", "u"], outputs),
        node("Flatten", ["n"], ["f"]),
        node("Gemm", ["f", "v"], ["y"]),
    ]
    proto = converted(nodes)
    for name, array in parts.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, tmp_path / "m.onnx")
    artifact = OnnxArtifact(tmp_path / "m.onnx")
    batch = R.random((6, 1, 8, 8)).astype(np.float32)
    assert check_parity(artifact.open_runtime(), artifact.open_twin(), batch).agrees
