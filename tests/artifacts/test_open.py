"""What a file is, is told from its bytes; what we refuse is named in one sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from auditor.artifacts.open import open_artifact
from auditor.artifacts.recognise import recognise
from auditor.errors import AuditError, UnreadableArtifact, UnsupportedArtifact
from tests.twin.torch_checks import save_exported, save_scripted


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _saved(value: object, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _numpy(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


def _safetensors() -> bytes:
    entry = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    header = json.dumps(entry).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n"
REFUSED: dict[str, tuple[Callable[[], bytes], type[AuditError], str]] = {
    "empty.onnx": (lambda: b"", UnreadableArtifact, "is empty"),
    "text.onnx": (lambda: b"hello\nworld\n", UnreadableArtifact, "text file"),
    "umlaut.pt": (lambda: "Grüße\n".encode() * 3000, UnreadableArtifact, "text file"),
    "json.onnx": (lambda: b'{"a": 1}', UnreadableArtifact, "text file"),
    "lfs.onnx": (lambda: _LFS, UnreadableArtifact, "Git LFS"),
    "page.onnx": (lambda: b"<!DOCTYPE html><html></html>", UnreadableArtifact, "web page"),
    "page2.pt": (lambda: b"\n\n <html lang=en>", UnreadableArtifact, "web page"),
    "a.onnx.gz": (lambda: gzip.compress(b"x" * 100), UnreadableArtifact, "gzip"),
    "noise.onnx": (lambda: bytes(range(255, 100, -1)), UnreadableArtifact, "no model file"),
    "zeros.pt": (lambda: bytes(1000), UnreadableArtifact, "no model file"),
    "w.safetensors": (_safetensors, UnsupportedArtifact, "safetensors"),
    "m.h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), UnsupportedArtifact, "Keras"),
    "m.keras": (
        lambda: _zip({"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b""}),
        UnsupportedArtifact,
        "Keras",
    ),
    "m.tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(60), UnsupportedArtifact, "TensorFlow Lite"),
    "m.ort": (lambda: b"\x1c\0\0\0ORTM" + bytes(60), UnsupportedArtifact, ".ort"),
    "a.npy": (lambda: _numpy(np.zeros(3)), UnsupportedArtifact, "NumPy array"),
    "a.npz": (lambda: _zip({"x.npy": _numpy(np.zeros(3))}), UnsupportedArtifact, "NumPy archive"),
    "a.zip": (lambda: _zip({"readme.md": b"hi"}), UnsupportedArtifact, "plain zip"),
    "p.pkl": (lambda: pickle.dumps({"a": 1}), UnsupportedArtifact, "pickle"),
    "module.pt": (lambda: _saved(nn.Linear(2, 2)), UnsupportedArtifact, "class torch.nn.modules"),
    "state.pt": (lambda: _saved(nn.Linear(2, 2).state_dict()), UnsupportedArtifact, "state dict"),
    "checkpoint.pt": (lambda: _saved({"epoch": 3}), UnsupportedArtifact, "checkpoint"),
    "tensor.pt": (lambda: _saved(torch.zeros(3)), UnsupportedArtifact, "tensor"),
    "old.pth": (lambda: _saved(nn.Linear(2, 2), True), UnsupportedArtifact, "old format"),
    "half.pt": (lambda: _saved(torch.zeros(3))[:400], UnreadableArtifact, "truncated"),
    "elf.pt": (lambda: b"\x7fELF" + bytes(100), UnreadableArtifact, "program"),
    "cat.onnx": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), UnreadableArtifact, "image"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused_files_are_named_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, kind, words = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(kind, match=words) as caught:
        open_artifact(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message


def test_missing_files_directories_and_pipes_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableArtifact, match="does not exist"):
        open_artifact(tmp_path / "gone.onnx")
    with pytest.raises(UnreadableArtifact, match="directory"):
        open_artifact(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(UnreadableArtifact, match="no regular file"):
        open_artifact(tmp_path / "pipe.onnx")
    with pytest.raises(UnreadableArtifact, match="cannot be read"):
        open_artifact("nul\0byte.onnx")


def test_the_extension_does_not_matter(tmp_path: Path) -> None:
    net, x = nn.Linear(4, 2).eval(), torch.rand(2, 4)
    assert recognise(save_scripted(net, x, tmp_path / "a.onnx")) == "torchscript"
    assert recognise(save_exported(net, x, tmp_path / "b.pt2").rename(tmp_path / "b.txt")) == "pt2"
    onnx = tmp_path / "c.pt"
    import onnx as library

    node = library.helper.make_node("Relu", ["x"], ["y"])
    info = [library.helper.make_tensor_value_info(n, 1, [1, 4]) for n in "xy"]
    model = library.helper.make_model(library.helper.make_graph([node], "g", info[:1], info[1:]))
    onnx.write_bytes(model.SerializeToString())
    assert recognise(onnx) == "onnx"


def test_onnx_fields_in_any_order_are_recognised(tmp_path: Path) -> None:
    graph = b"\x3a\x05" + b"\x12\x03abc"
    opset = b"\x42\x04\x0a\x00\x10\x11"
    for order in (opset + graph, graph + b"\x08\x08" + opset, b"\x08\x03\x12\x01x" + graph):
        path = tmp_path / "m"
        path.write_bytes(order)
        assert recognise(path) == "onnx"


def test_recognising_imports_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, auditor.artifacts.open, auditor.artifacts.torchscript, "
        "auditor.artifacts.exported; "
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime', 'onnx_ir'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path.cwd())
    assert done.returncode == 0
