"""What parsers skip: bytes, tensors and external data, each hostile case beside an honest twin."""

import gzip
import io
import os
import pickle
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from auditor.checks.file import onnx_bytes, onnx_invariants
from auditor.findings import Severity
from tests.checks.file.onnx_builder import Net
from tests.checks.file.onnx_helpers import findings, serious


@pytest.fixture
def model():
    net = Net(1)
    return net.model(net.scores(), shape=["N", 10])


def rules(path):
    return {item.rule for item in serious(path)}


def write(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    return path


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("evil.py", "print(1)")
    return stream.getvalue()


class Evil:
    def __reduce__(self):
        return print, ("hello",)


PAYLOADS = {
    "elf": b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0\x3e\0" + b"\0" * 60,
    "zip": zipped(),
    "gzip": gzip.compress(os.urandom(300)),
    "pickle": pickle.dumps(Evil(), 2),
    "script": b"#!/bin/sh\nrm -rf /\n",
    "pe": b"MZ" + b"\0" * 58 + (64).to_bytes(4, "little") + b"PE\0\0" + b"\0" * 40,
}


def test_honest_model_has_no_finding(model, tmp_path):
    assert findings(write(tmp_path, model.SerializeToString())) == []


@pytest.mark.parametrize("kind", PAYLOADS)
def test_appended_payload_is_named(kind, model, tmp_path):
    path = write(tmp_path, model.SerializeToString() + PAYLOADS[kind])
    found = findings(path, (onnx_bytes,))
    assert [item.rule for item in found] == ["bytes.appended"]
    assert found[0].severity >= Severity.HIGH


def test_cut_file_is_not_called_appended(model, tmp_path):
    whole = model.SerializeToString()
    for part in (0.3, 0.6, 0.95):
        path = write(tmp_path, whole[: int(len(whole) * part)])
        assert findings(path, (onnx_bytes,)) == []


def test_unknown_fields_are_reported_and_a_payload_in_one_is_worse(model, tmp_path):
    base = model.SerializeToString()
    plain = findings(write(tmp_path, base + field(9999, b"z" * 200)), (onnx_bytes,))
    assert [(item.rule, item.severity) for item in plain] == [
        ("bytes.unknown-field", Severity.MEDIUM)
    ]
    inner = field(7, model.graph.SerializeToString() + field(333, PAYLOADS["elf"]))
    model.ClearField("graph")
    found = findings(write(tmp_path, model.SerializeToString() + inner), (onnx_bytes,))
    assert [(item.rule, item.severity) for item in found] == [
        ("bytes.unknown-field", Severity.HIGH)
    ]


def test_second_graph_is_reported(model, tmp_path):
    twice = model.SerializeToString() + field(7, model.graph.SerializeToString())
    found = findings(write(tmp_path, twice), (onnx_bytes,))  # the parser refuses or merges it
    assert [item.rule for item in found] == ["bytes.repeated-field"]


@pytest.mark.parametrize("kind", PAYLOADS)
def test_payload_in_a_tensor_is_found(kind, model, tmp_path):
    data = np.frombuffer(PAYLOADS[kind], np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(data, "blob"))
    assert "bytes.payload" in rules(write(tmp_path, model.SerializeToString()))


def test_payload_deep_inside_weights_is_found(model, tmp_path):
    data = np.random.default_rng(0).bytes(5_000_000)
    blob = np.frombuffer(data + PAYLOADS["elf"] + data[:1000], np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(blob, "blob"))
    assert "bytes.payload" in rules(write(tmp_path, model.SerializeToString()))


def test_random_weights_hold_no_payload(model, tmp_path):
    noise = np.frombuffer(np.random.default_rng(5).bytes(20_000_000), np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(noise, "noise"))
    assert rules(write(tmp_path, model.SerializeToString())) == set()


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("__import__('os').system('id')", True),
        ("aW1wb3J0IG9zOyBvcy5zeXN0ZW0oJ2N1cmwgaHR0cDovL2V2aWwuZXhhbXBsZXxzaCcpICMgeHg=", True),
        ("class names: cat, dog, important things, executive summary, evaluation", False),
        ("{'stride': 32, 'task': 'detect', 'names': {0: 'person', 1: 'bicycle'}}", False),
    ],
)  # fmt: skip
def test_code_in_metadata(text, flagged, model, tmp_path):
    model.metadata_props.add(key="note", value=text)
    assert ("bytes.code-in-text" in rules(write(tmp_path, model.SerializeToString()))) == flagged


def test_two_data_fields(model, tmp_path):
    tensor = numpy_helper.from_array(np.arange(4, dtype=np.float32), "twice")
    tensor.float_data.extend([0, 1, 2, 3])
    model.graph.initializer.append(tensor)
    assert "tensor.two-fields" in rules(write(tmp_path, model.SerializeToString()))
    tensor.float_data[2] = 9
    model.graph.initializer[-1].CopyFrom(tensor)
    assert "tensor.two-values" in rules(write(tmp_path, model.SerializeToString()))


@pytest.mark.parametrize("dims", [[5], [2, 3], [-1, 4], [1 << 40]])
def test_dimensions_that_contradict_the_bytes(dims, model, tmp_path):
    tensor = numpy_helper.from_array(np.arange(4, dtype=np.float32), "odd")
    tensor.dims[:] = dims
    model.graph.initializer.append(tensor)
    found = findings(write(tmp_path, model.SerializeToString()), (onnx_bytes,))
    assert "tensor.size" in {item.rule for item in found}


def test_every_element_type_stored_honestly_is_quiet(model, tmp_path):
    for number in onnx.TensorProto.DataType.values():
        name = onnx.TensorProto.DataType.Name(number)
        if name in ("UNDEFINED", "STRING"):
            continue
        for raw in (True, False):
            values = np.zeros(6, helper.tensor_dtype_to_np_dtype(number))
            tensor = numpy_helper.from_array(values, f"{name}{raw}")
            if not raw:
                try:
                    tensor = helper.make_tensor(f"{name}{raw}", number, [6], [0] * 6)
                except (TypeError, ValueError):
                    continue
            model.graph.initializer.append(tensor)
    found = findings(write(tmp_path, model.SerializeToString()), (onnx_bytes,))
    assert found == []


def test_nan_in_weights_is_medium_and_infinite_masks_are_normal(tmp_path):
    net = Net(2)
    mask = np.where(np.eye(10) > 0, 0.0, -np.inf)
    scores = net.op("Add", net.scores(), net.c(mask[:1]))
    path = net.save(tmp_path / "m.onnx", scores, shape=["N", 10])
    assert serious(path) == []
    hurt = onnx.load(path)
    weight = next(t for t in hurt.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(hurt, path)
    assert [item.rule for item in serious(path)] == ["tensor.not-finite"]


def test_checker_reason_is_passed_on(model, tmp_path):
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = findings(write(tmp_path, model.SerializeToString()), (onnx_invariants,))
    assert "topologically sorted" in next(i.evidence for i in found if i.rule == "model.invalid")


@pytest.fixture
def external(model, tmp_path):
    folder = tmp_path / "ext"
    folder.mkdir()
    convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    path = folder / "m.onnx"
    onnx.save(model, path)
    return path


def edit(path, change):
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    change(tensor, {entry.key: entry for entry in tensor.external_data})
    onnx.save(model, path)


def test_honest_external_data_is_quiet(external):
    assert serious(external) == []


@pytest.mark.parametrize(
    "location",
    ["../../etc/passwd", "/etc/passwd", "C:\\Windows\\win.ini", "a/../../b", "..\\x", "file:///etc/hosts"],
)  # fmt: skip
def test_external_data_outside_the_folder_blocks_running(location, external):
    edit(external, lambda _, entries: setattr(entries["location"], "value", location))
    found = [item for item in findings(external, (onnx_bytes,)) if item.rule == "external.outside"]
    assert found and found[0].blocks_run and found[0].severity is Severity.CRITICAL


def test_symbolic_and_hard_links_are_reported(external, tmp_path):
    data = external.parent / "w.bin"
    moved = tmp_path / "elsewhere.bin"
    data.rename(moved)
    data.symlink_to(moved)
    found = findings(external, (onnx_bytes,))
    assert [(i.rule, i.severity) for i in found] == [("external.link", Severity.CRITICAL)]
    data.unlink()
    os.link(moved, data)
    assert [i.rule for i in serious(external)] == ["external.link"]


@pytest.mark.parametrize("change", [
    lambda t, e: setattr(e["offset"], "value", "-8"),
    lambda t, e: setattr(e["offset"], "value", "99999999"),
    lambda t, e: setattr(e["offset"], "value", "4"),
    lambda t, e: setattr(e["offset"], "value", "zero"),
    lambda t, e: setattr(e["length"], "value", "12"),
])  # fmt: skip
def test_ranges_that_do_not_fit(change, external):
    edit(external, change)
    found = {item.rule for item in findings(external, (onnx_bytes,)) if item.severity >= 2}
    assert "external.range" in found


def test_unknown_keys_missing_files_and_extra_bytes(external):
    edit(external, lambda tensor, _: tensor.external_data.add(key="__class__", value="x"))
    with (external.parent / "w.bin").open("ab") as stream:
        stream.write(b"secret" * 200)
    found = {item.rule for item in findings(external, (onnx_bytes,))}
    assert found == {"external.unknown-key", "external.unexplained"}
    (external.parent / "w.bin").unlink()
    assert "external.missing" in {item.rule for item in findings(external, (onnx_bytes,))}
