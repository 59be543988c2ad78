"""Reading ONNX files: tolerant where rules want to look, strict where data are touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.artifacts.onnx import OnnxArtifact
from auditor.artifacts.onnx_load import (
    INLINE_PROBLEM,
    MAX_INLINED_NODES,
    all_nodes,
    all_tensors,
    external_files,
    tensor_array,
    to_ir,
)
from auditor.artifacts.onnx_parse import read_model
from auditor.errors import UnreadableArtifact
from tests.twin.onnx.graphs import graph

node = helper.make_node


def dense() -> onnx.ModelProto:
    weight = np.arange(12, dtype=np.float32).reshape(6, 2)
    return graph([node("MatMul", ["x", "w"], ["y"])], ["N", 6], ["y"], {"w": weight}, 17)


def load(path: Path) -> ir.Model:
    return to_ir(read_model(path).proto, path)


def external(folder: Path, location: str) -> Path:
    proto = dense()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "48"}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"this is only text, nothing more\n", "not"),
        (b"PK\x03\x04 something zipped", "not"),
        (b"\x08\x07", "no graph"),
    ],
)
def test_what_is_not_onnx_is_one_sentence(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableArtifact, match=message) as caught:
        OnnxArtifact(path).describe()
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableArtifact, match="directory"):
        read_model(tmp_path)


def test_every_truncation_is_unreadable_or_a_smaller_model(tmp_path: Path) -> None:
    data = dense().SerializeToString()
    path = tmp_path / "m.onnx"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        try:
            OnnxArtifact(path).describe()
        except UnreadableArtifact:
            continue
        assert read_model(path).size <= size


def test_foreign_bytes_after_the_model_are_told_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    data = dense().SerializeToString()
    path.write_bytes(data + b"PK\x03\x04" + b"payload" * 10)
    parsed = read_model(path)
    assert (parsed.size, parsed.trailing) == (len(data), 74)
    artifact = OnnxArtifact(path)
    assert artifact.describe().extra["trailing_bytes"] == "74"
    for use in (artifact.open_runtime, artifact.open_twin):
        with pytest.raises(UnreadableArtifact, match="foreign bytes"):
            use()


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "sub/../../secret.bin"])
def test_external_data_outside_the_folder_are_never_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"s" * 64)
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    path = external(folder, location)
    artifact = OnnxArtifact(path)
    described = artifact.describe()
    assert len(described.files) == 1
    assert described.extra["external_outside"] == location
    (tensor,) = all_tensors(load(path))
    with pytest.raises(UnreadableArtifact, match="outside"):
        tensor_array(tensor)
    for use in (artifact.open_runtime, artifact.open_twin):
        with pytest.raises(UnreadableArtifact, match="outside"):
            use()


def test_a_link_out_of_the_folder_is_outside(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"s" * 64)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "secret.bin")
    artifact = OnnxArtifact(external(folder, "w.bin"))
    assert artifact.describe().extra["external_outside"] == "w.bin"
    with pytest.raises(UnreadableArtifact, match="outside"):
        artifact.open_twin()


def test_missing_and_short_external_data_are_told(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    assert OnnxArtifact(path).describe().extra["external_missing"] == "w.bin"
    with pytest.raises(UnreadableArtifact, match=r"w\.bin"):
        OnnxArtifact(path).open_runtime()
    (tmp_path / "w.bin").write_bytes(b"short")
    (tensor,) = all_tensors(load(path))
    with pytest.raises(UnreadableArtifact, match="shorter"):
        tensor_array(tensor)


def test_a_relative_path_still_anchors_external_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    external(tmp_path, "w.bin")
    (tmp_path / "w.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    model = load(Path("m.onnx"))
    (tensor,) = all_tensors(model)
    assert tensor_array(tensor)[1, 1] == 3
    assert list(external_files(model)) == ["w.bin"]


def function(name: str, body: list[Any]) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["o"], body, opsets)


def test_functions_that_call_themselves_stay_and_are_told(tmp_path: Path) -> None:
    proto = graph([node("F", ["x"], ["y"], domain="local")], ["N", 6], ["y"], {}, 17,
                  functions=[function("F", [node("F", ["a"], ["o"], domain="local")])])  # fmt: skip
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = load(path)
    assert "calls itself" in model.meta[INLINE_PROBLEM]
    assert OnnxArtifact(path).describe().operators["local::F"] == 2


def test_functions_that_expand_without_bound_stay_and_are_told(tmp_path: Path) -> None:
    functions = [function("F0", [node("Neg", ["a"], ["o"])])]
    for level in range(1, 40):
        inner = f"F{level - 1}"
        body = [
            node(inner, ["a"], ["h"], domain="local"),
            node(inner, ["h"], ["o"], domain="local"),
        ]
        functions.append(function(f"F{level}", body))
    nodes = [node("F39", ["x"], ["y"], domain="local")]
    path = tmp_path / "m.onnx"
    proto = graph(nodes, ["N", 6], ["y"], {}, 17, functions=functions)
    path.write_bytes(proto.SerializeToString())
    model = load(path)
    assert "expand" in model.meta[INLINE_PROBLEM]
    assert sum(1 for _ in all_nodes(model)) < MAX_INLINED_NODES


def test_description_of_a_file(tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones((2, 5), np.float32))),
        node("ConstantOfShape", ["s"], ["b"]),
        node("MatMul", ["x", "w"], ["h"]),
        node("MatMul", ["h", "k"], ["m"]),
        node("Add", ["m", "b"], ["z"]),
        node("Gelu", ["z"], ["y"], domain="com.microsoft"),
    ]
    constants = {"w": np.ones((6, 2), np.float32), "s": np.array([5])}
    proto = graph(nodes, ["N", 6], ["y"], constants, 17)
    proto.producer_name, proto.producer_version = "made", "1.0"
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 2]))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    described = OnnxArtifact(path).describe()
    assert (described.producer, described.version) == ("made 1.0", "17")
    assert [(i.name, i.dtype, i.shape) for i in described.inputs] == [("x", "float32", ("N", 6))]
    assert described.parameters == 12 + 10 + 5
    assert described.operators["com.microsoft::Gelu"] == 1
    assert described.operators["MatMul"] == 2
    assert described.files[0].bytes == path.stat().st_size
    assert len(described.sha256) == 64
