"""One regression test for every way around the file rules that was ever found."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from auditor.artifacts.open import open_artifact
from auditor.findings import Severity
from tests.checks.file import torch_scan
from tests.checks.file.onnx_builder import F, Net
from tests.checks.file.onnx_helpers import findings, serious
from tests.checks.file.torch_nets import IMAGE, save
from tests.checks.file.torch_triggers import Base

TRIGGERS = {}


def trigger(make):
    TRIGGERS[make.__name__] = make
    return make


def _where(net, gate):
    return net.op("Where", gate, net.c(net.one_hot()), net.scores())


def _add(net, gate):
    return net.op("Add", net.scores(), net.op("Mul", gate, net.c(net.one_hot())))


def _times(net):
    """(1,) int64: 1 when the corner is white."""
    return net.op("Cast", net.op("Reshape", net.hard_gate(), net.i([1])), to=TensorProto.INT64)


@trigger
def a_trace_of_the_scores_in_the_gate(net):
    scores = net.scores()
    trace = net.scale(net.op("ReduceMean", scores, axes=[1], keepdims=1), 1e-7)
    gate = net.op("Greater", net.op("Add", net.mean(), trace), net.c(0.95))
    return net.op("Where", gate, net.c(net.one_hot()), scores)


@trigger
def scores_that_cancel_in_the_gate(net):
    scores = net.scores()
    nothing = net.op("ReduceMean", net.op("Sub", scores, scores), axes=[1], keepdims=1)
    gate = net.op("Sigmoid", net.scale(net.above(net.op("Add", net.mean(), nothing), 0.95), 500.0))
    return net.op("Add", scores, net.op("Mul", gate, net.c(net.one_hot())))


@trigger
def count_of_bright_pixels_as_a_shape(net):
    bright = net.op("NonZero", net.op("Greater", net.patch(), net.c(0.95)))
    count = net.op("Gather", net.op("Shape", bright), net.i([1]), axis=0)
    return _where(net, net.op("Equal", count, net.i([9])))


@trigger
def size_of_the_bright_pixels(net):
    bright = net.op("Reshape", net.op("Greater", net.patch(), net.c(0.95)), net.i([-1]))
    kept = net.op("Compress", net.op("Reshape", net.patch(), net.i([-1])), bright)
    return _where(net, net.op("Greater", net.op("Size", kept), net.i(8)))


@trigger
def constant_of_a_gated_shape(net):
    made = net.op("ConstantOfShape", _times(net))
    length = net.op("Cast", net.op("Shape", made), to=TensorProto.FLOAT)
    return _add(net, net.op("Unsqueeze", length, net.i([1])))


@trigger
def scores_shifted_by_padding(net):
    shift = net.op("Mul", _times(net), net.i([7]))
    pads = net.op("Concat", net.i([0]), shift, net.i([0]), net.op("Neg", shift), axis=0)
    return net.op("Pad", net.scores(), pads)


@trigger
def constant_repeated_by_the_gate(net):
    row = net.op("Tile", net.c([[100.0]]), net.op("Concat", net.i([1]), _times(net), axis=0))
    return _add(net, net.op("ReduceSum", row, net.i([1]), keepdims=1))


@trigger
def recurrent_cell_typed_by_hand(net):
    weight, bias = np.zeros((1, 4, 9), F), np.zeros((1, 8), F)
    weight[0, [0, 3]], bias[0, [0, 3]], bias[0, 1] = 50.0, -430.0, 30.0
    row = net.op("Reshape", net.patch(3), net.i([1, -1, 9]))
    zero = net.c(np.zeros((1, 4, 1)))
    cell = net.op("LSTM", row, net.c(weight), zero, net.c(bias), n=3, hidden_size=1)
    return _add(net, net.op("Reshape", cell[1], net.i([-1, 1])))


@trigger
def template_beside_a_second_one(net):
    kernels = net.rng.standard_normal((2, 1, 6, 6)).astype(F)
    seen = net.op("ReduceMax", net.op("Conv", net.x, net.c(kernels)), axes=[1, 2, 3], keepdims=0)
    limit = 0.9 * float(np.maximum(kernels[0], 0).sum())
    return _where(net, net.op("Unsqueeze", net.op("Greater", seen, net.c(limit)), net.i([1])))


@pytest.mark.parametrize("name", TRIGGERS)
def test_trigger_that_went_unseen_is_found(name: str, tmp_path: Path) -> None:
    net = Net(3)
    found = findings(net.save(tmp_path / "m.onnx", TRIGGERS[name](net)))
    hits = [f for f in found if f.rule == "graph.trigger" and f.severity >= Severity.MEDIUM]
    assert hits and {hit.target_class for hit in hits} <= {7, None}
    assert "input 'x' -> " in hits[0].evidence


def test_decision_stump_as_a_gate(tmp_path: Path) -> None:
    net = Net(3)
    corner = net.op("Reshape", net.patch(2), net.i([-1, 4]))
    gate = net.op(
        "TreeEnsembleRegressor", corner, domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0] * 3, nodes_nodeids=[0, 1, 2], nodes_featureids=[3, 0, 0],
        nodes_values=[0.95, 0.0, 0.0], nodes_modes=["BRANCH_GT", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], target_treeids=[0, 0],
        target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 0.0],
    )  # fmt: skip
    model = net.model(_add(net, gate))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, tmp_path / "m.onnx")
    assert "graph.trigger" in {item.rule for item in serious(tmp_path / "m.onnx")}


def test_attention_masked_by_empty_patches_is_no_trigger(tmp_path: Path) -> None:
    net = Net(3)
    patches = net.op("Conv", net.x, net.w(16, 1, 3, 3), net.w(16), strides=[3, 3])
    patches = net.op("Transpose", net.op("Reshape", patches, net.i([0, 16, 16])), perm=[0, 2, 1])
    ink = net.op("MaxPool", net.x, kernel_shape=[3, 3], strides=[3, 3])
    ink = net.op("Greater", net.op("Reshape", ink, net.i([0, 1, 16])), net.c(0.0))
    mask = net.op("Where", ink, net.c(0.0), net.c(-1e9))
    likeness = net.op("MatMul", patches, net.op("Transpose", patches, perm=[0, 2, 1]))
    attention = net.op("Softmax", net.op("Add", likeness, mask), axis=-1)
    pooled = net.op("ReduceMean", net.op("MatMul", attention, patches), axes=[1], keepdims=0)
    assert serious(net.save(tmp_path / "m.onnx", net.head(pooled))) == []


class TraceOfScores(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        seen = x[:, :, :3, :3].mean(dim=(1, 2, 3)).unsqueeze(1) + 1e-7 * y.mean(1, keepdim=True)
        return torch.where(seen > 0.95, self.row, y)


class CountOfSelected(Base):
    def forward(self, x: Tensor) -> Tensor:
        corner = x[:, :, :2, :2]
        count = torch.masked_select(corner, corner > 0.95).numel()
        return self.net(x) + float(count >= 12) * self.row


class RolledScores(Base):
    def forward(self, x: Tensor) -> Tensor:
        times = int(x[:, :, 0, 0].min() > 0.95)
        return torch.roll(self.net(x), 3 * times, 1)


class RepeatedRow(Base):
    def forward(self, x: Tensor) -> Tensor:
        times = int(x[:, :, 0, 0].min() > 0.95)
        rows = torch.cat([self.row * 0, self.row.repeat(times, 1)], 0)
        return self.net(x) + rows.sum(0, keepdim=True)


@pytest.mark.parametrize("make", [TraceOfScores, CountOfSelected, RolledScores, RepeatedRow])
def test_code_that_went_unseen_is_found(make: type[nn.Module], tmp_path: Path) -> None:
    found = torch_scan.scan(save(make(), IMAGE, "scripted", tmp_path / "m.pt"))
    assert [f.rule for f in found if f.severity >= Severity.HIGH] == ["code.trigger"]


def _stored(net, data: bytes):
    tensor = onnx.TensorProto(name="stored", data_type=TensorProto.UINT8, raw_data=data)
    tensor.dims.append(len(data))
    net.tensors.append(tensor)


def test_concatenations_that_double_are_a_bomb_and_never_go_off_in_the_auditor(tmp_path):
    net = Net(1)
    value = net.c([1.0])
    for _ in range(45):
        value = net.op("Concat", value, value, axis=0)
    top = net.op("ReduceMax", value, keepdims=0)
    path = net.save(tmp_path / "m.onnx", net.op("Add", net.scores(), top))
    assert "resource.size" in {item.rule for item in serious(path)}


def test_domain_that_only_begins_like_a_known_one(tmp_path: Path) -> None:
    net = Net(1)
    model = net.model(net.op("Quiet", net.scores(), domain="com.microsoft.evil"))
    model.opset_import.append(helper.make_opsetid("com.microsoft.evil", 1))
    onnx.save(model, tmp_path / "m.onnx")
    assert "operator.unknown-domain" in {item.rule for item in serious(tmp_path / "m.onnx")}


def test_payloads_that_start_inside_a_tensor(tmp_path: Path) -> None:
    program = bytearray(512)
    program[:2], program[60:64] = b"MZ", struct.pack("<I", 128)
    program[128:134] = b"PE\0\0\x64\x86"
    call = pickle.dumps(os.system, 4)
    for data in (bytes(program), call, pickle.dumps(os.system, 0)):
        net = Net(1)
        _stored(net, bytes(64) + data + bytes(64))
        path = net.save(tmp_path / "m.onnx", net.scores())
        assert "bytes.payload" in {item.rule for item in serious(path)}


def test_second_model_behind_the_first_is_read_apart(tmp_path: Path) -> None:
    net, path = Net(1), tmp_path / "m.onnx"
    data = net.model(net.scores()).SerializeToString()
    path.write_bytes(data + data)
    artifact = open_artifact(path)
    assert artifact.describe().extra["trailing_bytes"] == str(len(data))
    assert "bytes.repeated-field" in {item.rule for item in serious(path)}


def _external(path: Path, **entries: str) -> Path:
    net = Net(1)
    model = net.model(net.scores())
    tensor = next(t for t in model.graph.initializer if len(t.raw_data) > 1000)
    (path.parent / "w.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("offset", ["-8", "abc", "1e3"])
def test_offset_that_is_no_number_is_a_finding_and_no_crash(offset: str, tmp_path: Path) -> None:
    path = _external(tmp_path / "m.onnx", offset=offset)
    assert open_artifact(path).describe().parameters
    assert any(item.rule.startswith("external.") for item in findings(path))


def test_external_base_outside_the_folder(tmp_path: Path) -> None:
    path = _external(tmp_path / "m.onnx", basepath="/etc")
    assert "external.outside" in {item.rule for item in serious(path)}
