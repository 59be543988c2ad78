"""Hostile exported programs: foreign targets, pickled payloads, compiled libraries."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from auditor.findings import Severity
from tests.artifacts.torch_files import write
from tests.checks.file.test_torch_hostile import ELF, MACHO, PE
from tests.checks.file.torch_nets import HONEST, IMAGE, export
from tests.checks.file.torch_scan import scan

REDUCE = b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00idtR."


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Members of an honest exported program, names without the root folder."""
    path = export(HONEST["cnn"][0](), IMAGE, tmp_path_factory.mktemp("pt2") / "m.pt2")
    assert scan(path) == []
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _graph(
    files: dict[str, bytes], change: Callable[[list[dict[str, Any]]], None]
) -> dict[str, bytes]:
    model = json.loads(files["models/model.json"])
    change(model["graph_module"]["graph"]["nodes"])
    return files | {"models/model.json": json.dumps(model).encode()}


TARGETS = {
    "torch.hub.load": "pt2.target",
    "torch.os.system": "pt2.target",
    "torch.load": "pt2.target",
    "torch.utils.cpp_extension.load": "pt2.target",
    "os.system": "pt2.target",
    "torch.ops.load_library": "pt2.target",
    "builtins.eval": "pt2.target",
    "torch._C._jit_set_profiling_mode": "pt2.target",
    "torch.ops.aten.from_file.default": "code.files",
    "torch.ops.aten.save.default": "code.files",
    "torch.ops.image.read_file.default": "code.files",
    "torch.ops.evil.run.default": "code.custom-operator",
    "torch.ops._c10d_functional.all_reduce.default": "code.network",
}


@pytest.mark.parametrize("target", TARGETS)
def test_foreign_targets(target: str, honest: dict[str, bytes], tmp_path: Path) -> None:
    def change(nodes: list[dict[str, Any]]) -> None:
        nodes[1]["target"] = target

    found = scan(write(tmp_path / "m.pt2", _graph(honest, change)))
    hits = [f for f in found if f.rule == TARGETS[target]]
    assert hits and hits[0].severity >= Severity.HIGH and target in hits[0].evidence
    if target != "torch.ops.evil.run.default":
        assert hits[0].blocks_run


@pytest.mark.parametrize(
    "name",
    ["data/weights/weight_0", "data/sample_inputs/model.pt", "data/constants/custom_obj_0",
     "data/constants/tensor_0", "extra/x", "models/notes.json"],
)  # fmt: skip
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickled_payloads(
    name: str, wrapped: bool, honest: dict[str, bytes], tmp_path: Path
) -> None:
    payload = REDUCE
    if wrapped:
        payload = write(tmp_path / "inner.pt", {"data.pkl": REDUCE}).read_bytes()
    found = scan(write(tmp_path / "m.pt2", honest | {name: payload}))
    hits = [f for f in found if f.rule == "torch.pickle.code"]
    assert hits and hits[0].blocks_run and hits[0].severity == Severity.CRITICAL


@pytest.mark.parametrize("data", [ELF, MACHO, PE], ids=["elf", "mach-o", "pe"])
@pytest.mark.parametrize(
    "name", ["data/aotinductor/model/model.so", "data/weights/weight_0", "extra/readme.txt"]
)
def test_compiled_code(name: str, data: bytes, honest: dict[str, bytes], tmp_path: Path) -> None:
    found = scan(write(tmp_path / "m.pt2", honest | {name: data}))
    hits = [f for f in found if f.rule in ("torch.payload.library", "torch.payload.native")]
    assert hits and hits[0].severity >= Severity.HIGH
    assert hits[0].blocks_run == name.endswith(".so")


def test_compiled_code_is_known_by_name_too(honest: dict[str, bytes], tmp_path: Path) -> None:
    files = honest | {"data/aotinductor/model/kernel.cubin": struct.pack("<50L", *range(50))}
    found = scan(write(tmp_path / "m.pt2", files))
    assert [f.rule for f in found if f.blocks_run] == ["torch.payload.library"]


def test_old_layout(tmp_path: Path) -> None:
    """serialized_*.pt of torch before 2.8: nested archives, read by torch.load."""
    inner = write(tmp_path / "inner.pt", {"data.pkl": REDUCE}).read_bytes()
    files = {"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": inner}
    found = scan(write(tmp_path / "m.pt2", files, root=""))
    assert "torch.pickle.code" in {f.rule for f in found}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 50_000, b'{"graph_module": 3}', b"\xff"])
def test_broken_programs_never_crash(text: bytes, honest: dict[str, bytes], tmp_path: Path) -> None:
    scan(write(tmp_path / "m.pt2", honest | {"models/model.json": text}))


def test_state_dicts_saved_by_torch_are_no_programs(tmp_path: Path) -> None:
    torch.save(HONEST["cnn"][0]().state_dict(), tmp_path / "m.pt")
    assert scan(tmp_path / "m.pt") == []
