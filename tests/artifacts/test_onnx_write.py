"""Write-back: only the named weights and one metadata entry differ, byte for byte elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.artifacts.onnx import OnnxArtifact
from auditor.artifacts.onnx_wire import fields
from auditor.errors import UnreadableArtifact
from tests.twin.onnx.conftest import SHARED
from tests.twin.onnx.graphs import graph

R = np.random.default_rng(11)
node = helper.make_node
PROVENANCE = {"tool": "auditor 1", "method": "fine-pruning", "note": 'quotes " and ü'}


def f(*shape: int) -> Any:
    return R.normal(size=shape).astype(np.float32)


@pytest.fixture
def shared() -> Path:
    """The folder of third-party test material."""
    if not SHARED.is_dir():
        pytest.skip("no third-party test material here (set AUDITOR_SHARED)")
    return SHARED


def saved(folder: Path, proto: onnx.ModelProto, name: str = "m.onnx") -> Path:
    path = folder / name
    for size in ("N", None):  # the checker wants the rank of the output
        proto.graph.output[0].type.tensor_type.shape.dim.add(dim_param=size)
    path.write_bytes(proto.SerializeToString())
    return path


def two_layers() -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "a", "ab"], ["h"], name="first"),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "b"], ["y"], name="last"),
    ]
    return graph(nodes, ["N", 6], ["y"], {"a": f(6, 4), "ab": f(4), "b": f(4, 3)}, 17)


def outputs(path: Path, x: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_only_the_named_bytes_and_one_entry_at_the_end_differ(tmp_path: Path) -> None:
    source = saved(tmp_path, two_layers())
    old = source.read_bytes()
    value = f(4, 3)
    target = tmp_path / "m.sanitized.onnx"
    assert OnnxArtifact(source).write(target, {"b": value}, PROVENANCE) == (target,)
    new = target.read_bytes()
    stored = numpy_helper.to_array(onnx.load(source).graph.initializer[2]).tobytes()
    at = old.index(stored)
    assert new[: len(old)] == old[:at] + value.tobytes() + old[at + len(stored) :]
    (entry,) = fields(new[len(old) :])
    assert entry.number == 14
    (metadata,) = onnx.load(target).metadata_props
    assert metadata.key == "auditor.provenance"
    assert json.loads(metadata.value) == PROVENANCE
    assert source.read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.sanitized.onnx"]
    onnx.checker.check_model(str(target), full_check=True)


def test_the_new_weights_act_and_a_second_writing_adds_its_own_entry(tmp_path: Path) -> None:
    source, x = saved(tmp_path, two_layers()), f(5, 6)
    artifact = OnnxArtifact(source)
    changes = {name: f(*p.shape) for name, p in artifact.open_twin().parameters.items()}
    artifact.write(tmp_path / "n.onnx", changes, PROVENANCE)
    wanted = np.maximum(x @ changes["a"] + changes["ab"], 0) @ changes["b"]
    assert np.allclose(outputs(tmp_path / "n.onnx", x), wanted, atol=1e-5)
    OnnxArtifact(tmp_path / "n.onnx").write(tmp_path / "o.onnx", {}, {"again": "yes"})
    keys = [entry.key for entry in onnx.load(tmp_path / "o.onnx").metadata_props]
    assert keys == ["auditor.provenance", "auditor.provenance.2"]


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8, ml_dtypes.bfloat16])
@pytest.mark.parametrize("typed", [False, True])
def test_the_stored_type_is_kept(tmp_path: Path, kind: Any, typed: bool) -> None:
    dtype = np.dtype(kind)
    code = helper.np_dtype_to_tensor_dtype(dtype)
    stored = (R.normal(size=(3, 2)) * 9).astype(dtype)
    nodes = [node("Cast", ["w"], ["wf"], to=TensorProto.FLOAT), node("MatMul", ["x", "wf"], ["y"])]
    proto = graph(nodes, ["N", 3], ["y"], {"w": stored}, 17)
    if typed:
        values = stored.astype(np.float64).ravel().tolist()
        proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", code, [3, 2], values))
    source = saved(tmp_path, proto)
    value = np.array([[1.25, -2], [300, 4], [5, 6e6]])
    OnnxArtifact(source).write(tmp_path / "n.onnx", {"w": value}, {})
    tensor = onnx.load(tmp_path / "n.onnx").graph.initializer[0]
    assert tensor.data_type == code
    assert not tensor.float_data
    assert not tensor.int32_data
    written = numpy_helper.to_array(tensor).astype(np.float64)
    limits = np.iinfo(dtype) if dtype.kind == "i" else ml_dtypes.finfo(dtype)
    clipped = np.clip(value, float(limits.min), float(limits.max))
    wanted = np.rint(clipped) if dtype.kind == "i" else clipped.astype(dtype).astype(np.float64)
    assert np.array_equal(written, wanted)


def test_constant_nodes_and_constant_of_shape_can_be_written(tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], ["w"], value=numpy_helper.from_array(f(6, 4), "anything")),
        node("ConstantOfShape", ["s"], ["b"], value=helper.make_tensor("v", 1, [1], [0.5])),
        node("Gemm", ["x", "w", "b"], ["y"]),
    ]
    proto = graph(nodes, ["N", 6], ["y"], {"s": np.array([4])}, 17)
    source, x = saved(tmp_path, proto), f(3, 6)
    changes = {"w": f(6, 4), "b": f(4)}
    target = tmp_path / "n.onnx"
    OnnxArtifact(source).write(target, changes, {})
    onnx.checker.check_model(str(target), full_check=True)
    assert np.allclose(outputs(target, x), x @ changes["w"] + changes["b"], atol=1e-5)
    assert set(OnnxArtifact(target).open_twin().parameters) == {"w", "b"}


def external(folder: Path, files: dict[str, list[str]]) -> Path:
    """Two layers whose tensors lie in `files`, with a gap before each."""
    proto = two_layers()
    tensors = {t.name: t for t in proto.graph.initializer}
    for location, names in files.items():
        data = b""
        for name in names:
            tensor = tensors[name]
            data += b"gap!" * 4
            entries = {"location": location, "offset": str(len(data)), "checksum": "0" * 40}
            entries["length"] = str(len(tensor.raw_data))
            data += tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=value)
        (folder / location).parent.mkdir(exist_ok=True)
        (folder / location).write_bytes(data)
    return saved(folder, proto)


@pytest.mark.parametrize(
    "files", [{"w.bin": ["a", "b"]}, {"w.bin": ["a"], "deep/v.bin": ["b", "ab"]}]
)
def test_external_data_are_rewritten_beside_the_new_file(
    tmp_path: Path, files: dict[str, list[str]]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    source, x = external(folder, files), f(3, 6)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    artifact = OnnxArtifact(source)
    assert len(artifact.describe().files) == 1 + len(files)
    parameters = {name: p.numpy() for name, p in artifact.open_twin().parameters.items()}
    elsewhere = tmp_path / "out"
    elsewhere.mkdir()
    target, value = elsewhere / "m.sanitized.onnx", f(4, 3)
    written = artifact.write(target, {"b": value}, PROVENANCE)
    assert written == (target, elsewhere / "m.sanitized.onnx.data")
    assert sorted(p.name for p in elsewhere.iterdir()) == [p.name for p in written]
    onnx.checker.check_model(str(target))
    wanted = np.maximum(x @ parameters["a"] + parameters["ab"], 0) @ value
    assert np.allclose(outputs(target, x), wanted, atol=1e-5)
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    if len(files) == 1:
        old, new = (folder / "w.bin").read_bytes(), written[1].read_bytes()
        at = old.index(parameters["b"].tobytes())
        assert new == old[:at] + value.tobytes() + old[at + 48 :]


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    source = saved(tmp_path, two_layers())
    artifact = OnnxArtifact(source)
    target = tmp_path / "n.onnx"
    with pytest.raises(KeyError, match="nope"):
        artifact.write(target, {"nope": f(1)}, {})
    with pytest.raises(ValueError, match=r"parameter 'b' has shape \(4, 3\)"):
        artifact.write(target, {"b": f(3, 4)}, {})
    with pytest.raises(ValueError, match="replace"):
        artifact.write(source, {}, {})
    with pytest.raises(OSError, match="missing"):
        artifact.write(tmp_path / "missing" / "n.onnx", {}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_short_external_data_leave_nothing_behind(tmp_path: Path) -> None:
    source = external(tmp_path, {"w.bin": ["a", "b"]})
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(UnreadableArtifact, match="shorter"):
        OnnxArtifact(source).write(tmp_path / "n.onnx", {"b": f(4, 3)}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "w.bin"]


def test_every_parameter_of_published_files_can_be_written(shared: Path, tmp_path: Path) -> None:
    names = ["wonnx_opt-mnist", "makora_mnist_cnn", "vnn23_vit_cifar10_pgd_2_3_16"]
    names += ["onnxlight_squeezenet", "zuramai_external_data/mnist", "gszj_fashionmnist"]
    for name in names:
        artifact = OnnxArtifact(shared / "models" / "onnx" / f"{name}.onnx")
        parameters = artifact.open_twin().parameters
        changes = {key: value.numpy() + 1 for key, value in parameters.items()}
        target = tmp_path / f"{Path(name).name}.sanitized.onnx"
        artifact.write(target, changes, PROVENANCE)
        again = OnnxArtifact(target)
        again.open_runtime()
        written = again.open_twin().parameters
        assert set(written) == set(changes)
        assert all(np.array_equal(written[key].numpy(), changes[key]) for key in changes)
