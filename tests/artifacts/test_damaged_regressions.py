"""Each damage that once escaped as a traceback; found by the 2,000-file fuzz."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from auditor.artifacts.onnx import OnnxArtifact
from auditor.artifacts.onnx_write import write_copy
from auditor.artifacts.open import open_artifact
from auditor.errors import UnreadableArtifact
from auditor.twin.interface import NoTwin
from tests.twin.onnx.graphs import graph

node = helper.make_node
W = np.ones((4, 3), np.float32)


def saved(proto: onnx.ModelProto, folder: Path) -> OnnxArtifact:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return OnnxArtifact(path)


@pytest.mark.parametrize("kind", [0, 127])
@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_tensors_without_a_known_type_make_the_file_unreadable(
    tmp_path: Path, kind: int, place: str
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    proto = graph(nodes, ["N", 4], ["y"], {"w": W}, 17)
    if place == "initializer":
        proto.graph.initializer[0].data_type = kind
    else:
        constant = node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(W))
        constant.attribute[0].t.data_type = kind
        proto.graph.node.append(constant)
    with pytest.raises(UnreadableArtifact, match="no known data type"):
        saved(proto, tmp_path).describe()


def test_an_attribute_that_claims_a_tensor_and_has_none(tmp_path: Path) -> None:
    proto = graph([node("Relu", ["x"], ["y"])], ["N", 4], ["y"], {}, 17)
    constant = node("Constant", [], ["c"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    proto.graph.node.append(constant)
    with pytest.raises(UnreadableArtifact, match="no known data type"):
        saved(proto, tmp_path).describe()


@pytest.mark.parametrize("broken", ["Constant", "If", "branches", "Loop"])
def test_nodes_that_lack_what_they_need_make_the_file_unreadable(
    tmp_path: Path, broken: str
) -> None:
    proto = graph([node("Add", ["x", "c"], ["y"])], ["N", 4], ["y"], {"yes": np.array(True)}, 17)
    body = onnx.helper.make_graph([node("Neg", ["x"], ["o"])], "b", [], [])
    bad = {
        "Constant": node("Constant", [], ["c"]),
        "If": node("If", [], ["c"], then_branch=body, else_branch=body),
        "branches": node("If", ["yes"], ["c"], then_branch=1, else_branch=2),
        "Loop": node("Loop", [], ["c"]),
    }[broken]
    proto.graph.node.insert(0, bad)
    with pytest.raises(UnreadableArtifact, match="has no") as caught:
        saved(proto, tmp_path).describe()
    assert "\n" not in str(caught.value)


def test_a_constant_made_from_no_shape_has_no_twin(tmp_path: Path) -> None:
    nodes = [node("ConstantOfShape", [], ["c"]), node("Add", ["x", "c"], ["y"])]
    artifact = saved(graph(nodes, ["N", 4], ["y"], {}, 17), tmp_path)
    assert artifact.describe().parameters == 0
    with pytest.raises(NoTwin) as caught:
        artifact.open_twin()
    assert "\n" not in str(caught.value)


def test_an_operator_name_with_line_breaks_stays_one_line(tmp_path: Path) -> None:
    proto = graph([node("Conv\x1b[2J\nfake: all good", ["x"], ["y"])], ["N", 4], ["y"], {}, 17)
    with pytest.raises(NoTwin, match="No differentiable form") as caught:
        saved(proto, tmp_path).open_twin()
    assert str(caught.value).isprintable()


def test_a_zip64_record_beyond_all_places_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, (1 << 63) + 12345, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 46, 4, 0)
    path.write_bytes(b"PK\x03\x04" + bytes(60) + locator + end)
    with pytest.raises(UnreadableArtifact) as caught:
        open_artifact(path).describe()
    assert "\n" not in str(caught.value)


def test_two_tensors_of_one_name_are_not_edited(tmp_path: Path) -> None:
    proto = graph([node("MatMul", ["x", "w"], ["y"])], ["N", 4], ["y"], {"w": W}, 17)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 5), np.float32), "w"))
    source = tmp_path / "m.onnx"
    source.write_bytes(proto.SerializeToString())
    with pytest.raises(UnreadableArtifact, match="two stored tensors are called 'w'"):
        write_copy(source, tmp_path / "n.onnx", {"w": W * 2}, {"method": "test"})
    assert not (tmp_path / "n.onnx").exists()
