"""The torch archive reader: same names and values as torch, nothing executed, nothing trusted."""

from __future__ import annotations

import os
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.artifacts.torch_archive import interpret_pickle, open_archive
from auditor.artifacts.torch_tensors import read_tensor, tensors
from auditor.artifacts.torch_unpickle import Call
from auditor.errors import AuditError, UnreadableArtifact
from tests.artifacts.torch_files import data_pickle, entries, members, raw_zip, write
from tests.checks.file.torch_nets import HONEST, save


@pytest.mark.parametrize("form", ["scripted", "traced", "training"])
@pytest.mark.parametrize("name", ["cnn", "attention", "normalised", "training_noise"])
def test_names_and_values_are_those_of_torch(name: str, form: str, tmp_path: Path) -> None:
    make, shape = HONEST[name]
    path = save(make(), shape, form, tmp_path / "m.pt")
    archive = open_archive(path)
    assert archive.kind == "torchscript" and archive.root == "m" and not archive.problems
    found = tensors(archive)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path))
    expected = dict(module.named_parameters()) | dict(module.named_buffers())
    assert expected.keys() <= found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(read_tensor(archive, found[key]), value.detach().numpy())


def test_frozen_weights_are_constants(tmp_path: Path) -> None:
    path = save(HONEST["cnn"][0](), HONEST["cnn"][1], "frozen", tmp_path / "m.pt")
    found = tensors(open_archive(path))
    assert found and all(name.startswith("constants.c") for name in found)


def test_span_points_at_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", members())
    archive = open_archive(path)
    offset, length = archive.member_data_span("data/1")
    data = path.read_bytes()[offset : offset + length]
    np.testing.assert_array_equal(np.frombuffer(data, "<f4"), np.arange(10))
    assert read_tensor(archive, tensors(archive)["bias"]).tolist() == list(range(10))


def test_exported_program_weights(tmp_path: Path) -> None:
    net = HONEST["cnn"][0]().eval()
    program = torch.export.export(net, (torch.rand(2, 3, 8, 8),))
    torch.export.save(program, tmp_path / "m.pt2")
    archive = open_archive(tmp_path / "m.pt2")
    assert archive.kind == "pt2"
    found = tensors(archive)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(read_tensor(archive, found[key]), value.numpy())


class Bad:
    """Unpickles by calling os.mkdir."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_reading_a_pickle_calls_nothing(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "made"
    found = interpret_pickle(pickle.dumps({"a": [Bad(mark)]}, protocol))
    assert not found.error and [call.name for call in found.calls] == [f"{os.name}.mkdir"]
    assert isinstance(found.root["a"][0], Call) and not mark.exists()


@pytest.mark.parametrize(
    "data",
    [b"", b".", b"\x80\x02", b"(((((", b"}(.", b"cos\nsystem\n", b"\x80\x02\x95\xff", b"Na.",
     b"(" * 100_000, b"\x85" * 10, b"h\x05.", b"\x8c\x02\xff\xff.", b"]" + b"]a" * 50_000,
     b"I" + b"9" * 5000 + b"\n."],
)  # fmt: skip
def test_broken_pickles_say_so(data: bytes) -> None:
    found = interpret_pickle(data)
    assert found.error


def test_deep_and_circular_trees_are_walked_in_bounds(tmp_path: Path) -> None:
    deep = b"\x80\x02)" + b"\x85" * 50_000 + b"."
    circle = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
    wide = b"\x80\x02]q\x00" + b"".join(
        b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)
    )
    for data in (deep, circle, wide + b"."):
        path = write(tmp_path / "m.pt", members(**{"data.pkl": data}))
        assert [name for name in tensors(open_archive(path)) if "constants" not in name] == []


def _one(**changes: int) -> bytes:
    listed = entries(members())
    listed[2] = (*listed[2][:2], changes)
    return raw_zip(listed)


_GOOD = raw_zip(entries(members()))
PROBLEMS = {
    "trailing": _GOOD + b"more",
    "prepended": b"MZ" + b"\0" * 50 + _GOOD,
    "gap": raw_zip([*entries(members())[:3], ("m/x", b"\0" * 99, {"offset": 0}),
                    *entries(members())[3:]]),
    "local": _one(local_size=7),
    "local crc": _one(local_crc=1),
    "local name": _one(local_name=0),
    "overlap": _one(offset=0),
    "encrypted": _one(flags=1),
    "method": _one(method=99),
    "symlink": _one(mode=0xA1FF),
    "bounds": _one(packed=1 << 30),
    "traversal": raw_zip([*entries(members()), ("m/../../etc/cron.d/x", b"x", {})]),
    "absolute": raw_zip([*entries(members()), ("/etc/x", b"x", {})]),
    "absolute windows": raw_zip([*entries(members()), ("C:\\x", b"x", {})]),
    "duplicate": raw_zip([*entries(members()), ("m/data.pkl", b"x", {})]),
    "duplicate by case": raw_zip([*entries(members()), ("m/DATA.PKL", b"x", {})]),
    "outside": raw_zip([*entries(members()), ("other/data.pkl", b"x", {})]),
    "name": raw_zip([*entries(members()), ("m/a\x1b[2Jb", b"x", {})]),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_structure_problems_are_listed(case: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(PROBLEMS[case])
    kinds = {problem.kind for problem in open_archive(path).problems}
    assert case.partition(" ")[0] in kinds


def test_a_plain_zip_has_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(_GOOD)
    assert open_archive(path).problems == ()


def test_sizes_that_lie_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", members(**{"data.pkl": data_pickle((10, 9999))}))
    archive = open_archive(path)
    with pytest.raises(UnreadableArtifact, match="too short"):
        read_tensor(archive, tensors(archive)["weight"])


@pytest.mark.parametrize("seed", range(150))
def test_mutated_archives_raise_only_audit_errors(seed: int, tmp_path: Path) -> None:
    choice = random.Random(seed)
    data = bytearray(_GOOD)
    for _ in range(choice.randint(1, 12)):
        place = choice.choice([choice.randrange(len(data)), choice.randrange(-900, -1)])
        data[place] = choice.randrange(256)
    if seed % 3 == 0:
        del data[choice.randrange(len(data)) :]
    if seed % 5 == 0:
        data += data[: choice.randrange(500)]
    path = tmp_path / "m.pt"
    path.write_bytes(bytes(data))
    try:
        archive = open_archive(path)
        for stored in tensors(archive).values():
            read_tensor(archive, stored)
        archive.code()
    except AuditError as error:
        assert str(error)
