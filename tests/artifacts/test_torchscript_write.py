"""TorchScript archives written back: what was asked for changes, the rest stays byte for byte."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditor.artifacts.open import open_artifact
from auditor.artifacts.torch_archive import open_archive
from auditor.artifacts.torch_tensors import read_tensor
from auditor.artifacts.torchscript import TorchScriptArtifact
from auditor.artifacts.zip_surgery import copy_archive
from auditor.errors import UnreadableArtifact
from tests.artifacts.torch_archives import members, net
from tests.twin.torch_checks import WAYS, relative, save_scripted

torch.set_num_threads(1)


def order(path: Path) -> list[tuple[str, int, int]]:
    archive = open_archive(path)
    assert not archive.problems
    return [(m.name, m.method, m.header_offset) for m in archive.all_members]


@pytest.mark.parametrize("way", list(WAYS))
def test_only_the_named_parameters_and_one_member_change(way: str, tmp_path: Path) -> None:
    suffix, save = WAYS[way]
    source = save(net(), torch.rand(1, 1, 8, 8), tmp_path / f"m{suffix}")
    artifact, target = open_artifact(source), tmp_path / f"w{suffix}"
    twin = artifact.open_twin()
    head = twin.layers[-1]
    new = np.random.default_rng(0).normal(size=(5, 144)).astype(np.float32)
    written = artifact.write(target, {head.weight: new}, {"method": "test"})
    assert written == (target,)
    before, after = members(source), members(target)
    added = set(after) - set(before)
    assert [name.partition("/")[2] for name in added] == ["extra/audit_provenance.json"]
    assert json.loads(after[added.pop()]) == {"method": "test"}
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == 1
    assert after[changed[0]] == new.tobytes()
    assert order(source) == order(target)[:-1]
    _only_expected_bytes_differ(source, target, changed[0])
    x = torch.rand(3, 1, 8, 8)
    native = open_artifact(target).open_runtime().run(x.numpy())[0]
    replaced = twin.run(x, parameters={head.weight: torch.from_numpy(new)})
    assert relative(replaced.outputs[0], native) < 1e-6


def _only_expected_bytes_differ(source: Path, target: Path, member: str) -> None:
    """Outside the member's bytes, only its checksums differ before the directory ends."""
    archive = open_archive(source)
    changed = next(m for m in archive.all_members if m.name == member)
    a, b = (np.frombuffer(p.read_bytes(), np.uint8) for p in (source, target))
    last = max(archive.all_members, key=lambda m: m.header_offset)
    end = last.data_offset + last.compressed_size
    where = np.nonzero(a[:end] != b[:end])[0]
    start = changed.data_offset
    stop = start + changed.size + 8  # the data descriptor repeats the checksum
    crc = range(changed.header_offset + 14, changed.header_offset + 18)
    assert where.size
    assert all(start <= i < stop or i in crc for i in where)


def test_no_change_copies_everything(tmp_path: Path) -> None:
    source = save_scripted(net(), torch.rand(1), tmp_path / "m.pt")
    copy_archive(source, tmp_path / "same.pt", {}, {})
    assert (tmp_path / "same.pt").read_bytes() == source.read_bytes()


def test_torch_reads_the_provenance(tmp_path: Path) -> None:
    source = save_scripted(net(), torch.rand(1), tmp_path / "m.pt")
    artifact = open_artifact(source)
    artifact.write(tmp_path / "w.pt", {}, {"seed": "0"})
    open_artifact(tmp_path / "w.pt").write(tmp_path / "v.pt", {}, {"seed": "1"})
    extra = {"audit_provenance.json": "", "audit_provenance.2.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(tmp_path / "v.pt"), _extra_files=extra)
    assert [json.loads(text)["seed"] for text in extra.values()] == ["0", "1"]


class Shared(nn.Module):
    """Two parameters in one storage, one of them transposed, and other dtypes beside."""

    def __init__(self) -> None:
        super().__init__()
        both = torch.arange(24, dtype=torch.float32)
        self.register_buffer("low", both[:12].view(3, 4))
        self.register_buffer("high", both[12:].view(4, 3).t())
        self.register_buffer("f16", torch.ones(3, dtype=torch.float16))
        self.register_buffer("brain", torch.ones(3, dtype=torch.bfloat16))
        self.register_buffer("f64", torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        y = x @ (self.low + self.high).t()
        return y * self.f16.float() * self.brain.float() * self.f64.float()


def test_shared_storages_strides_and_dtypes(tmp_path: Path) -> None:
    path = save_scripted(Shared().eval(), torch.rand(1), tmp_path / "s.pt")
    artifact = open_artifact(path)
    assert isinstance(artifact, TorchScriptArtifact)
    assert artifact.stored["high"].stride == (1, 3)
    assert artifact.stored["high"].member == artifact.stored["low"].member
    changes = {
        "high": np.random.default_rng(1).normal(size=(3, 4)),
        "f16": np.array([1.5, 2.5, -3]),
        "brain": np.array([0.5, 2, 4], ml_dtypes.bfloat16),
        "f64": np.array([1 / 3, 2, 3]),
    }
    artifact.write(tmp_path / "w.pt", changes, {})
    again = open_archive(tmp_path / "w.pt")
    stored = TorchScriptArtifact(tmp_path / "w.pt").stored
    for name, value in changes.items():
        found = read_tensor(again, stored[name])
        assert np.array_equal(found, value.astype(found.dtype)), name
    low = read_tensor(again, stored["low"])
    assert np.array_equal(low, np.arange(12, dtype=np.float32).reshape(3, 4))
    twin = open_artifact(tmp_path / "w.pt").open_twin()
    x = torch.rand(2, 4)
    native = open_artifact(tmp_path / "w.pt").open_runtime().run(x.numpy())[0]
    assert relative(twin.run(x).outputs[0], native) < 1e-5


def test_wrong_names_and_shapes_write_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    artifact = open_artifact(save_scripted(net(), torch.rand(1), tmp_path / "m.pt"))
    with pytest.raises(KeyError, match="nothing"):
        artifact.write(folder / "w.pt", {"nothing": np.zeros(3)}, {})
    with pytest.raises(ValueError, match="shape"):
        artifact.write(folder / "w.pt", {"0.bias": np.zeros(3)}, {})
    assert not list(folder.iterdir())


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = open_artifact(save_scripted(net(), torch.rand(1), tmp_path / "m.pt"))
    target = tmp_path / "w.pt"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        artifact.write(target, {"0.bias": np.zeros(4)}, {})
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pt", "w.pt"]


def test_compressed_storages_are_refused(tmp_path: Path) -> None:
    source = save_scripted(net(), torch.rand(1), tmp_path / "m.pt")
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members(source).items():
            archive.writestr(name, data)
    artifact = open_artifact(packed)
    assert artifact.describe().parameters > 0
    with pytest.raises(UnreadableArtifact, match="not stored plainly"):
        artifact.write(tmp_path / "w.pt", {"0.bias": np.zeros(4)}, {})
    assert not (tmp_path / "w.pt").exists()
