"""Mutated files never give a traceback, a hang or a partial output.

Each mutant goes through what `audit scan --profile file` runs in the child (description and every
file rule) and through write-back: both work or raise one `AuditError` of one line.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from auditor.artifacts.open import open_artifact
from auditor.checks.interface import FileCheck
from auditor.checks.registry import all_checks
from auditor.child import file_audit
from auditor.errors import AuditError
from tests.twin.torch_checks import save_exported, save_frozen, save_scripted

LIMIT = 10.0
"""Seconds one mutated file may take."""

_RULES = [r.check.name for r in all_checks()[0] if issubclass(r.check, FileCheck)]


def _onnx(path: Path) -> Path:
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 1, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=(144, 5)).astype(np.float32), "v"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", 1, ["N", 5])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def _seeds(folder: Path) -> list[bytes]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(4 * 36, 5)).eval()
    x = torch.rand(2, 1, 8, 8)
    paths = [
        save_scripted(net, x, folder / "s.pt"),
        save_frozen(net, x, folder / "f.pt"),
        save_exported(net, x, folder / "e.pt2"),
        _onnx(folder / "o.onnx"),
    ]
    return [path.read_bytes() for path in paths]


def _mutants(seeds: list[bytes], count: int) -> Iterator[bytes]:
    rng = random.Random(0)
    for index in range(count):
        data = bytearray(seeds[index % len(seeds)])
        other = rng.choice(seeds)
        kind = rng.randrange(6)
        if kind == 0:  # flipped bits anywhere
            for _ in range(rng.choice([1, 4, 32, 256])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 1:  # flipped bits in the structure: the first bytes or the zip directory
            start = rng.choice([0, max(0, len(data) - 3000)])
            for _ in range(rng.choice([1, 4, 16])):
                data[start + rng.randrange(min(3000, len(data) - start))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[rng.randrange(len(data)) :]
        elif kind == 3:  # a piece of another file in the middle
            at, start = rng.randrange(len(data)), rng.randrange(len(other))
            data[at : at + rng.randrange(4000)] = other[start : start + rng.randrange(4000)]
        elif kind == 4:  # extreme numbers where lengths and offsets may stand
            for _ in range(rng.choice([1, 3])):
                at = rng.randrange(max(1, len(data) - 8))
                width = rng.choice([1, 2, 4, 8])
                data[at : at + width] = rng.choice([b"\xff", b"\x00", b"\x7f"]) * width
        else:  # one file behind the other
            data += other[rng.randrange(len(other)) :]
        yield bytes(data)


def _fuzz(folder: Path, count: int) -> dict[str, int]:
    outcomes: dict[str, int] = {"described": 0, "refused": 0}
    path = folder / "mutant"
    for index, data in enumerate(_mutants(_seeds(folder), count)):
        path.write_bytes(data)
        start = time.perf_counter()
        try:
            described = open_artifact(path).describe()
            assert described.files[0].bytes == len(data)
            _audit(path)
            outcomes["described"] += 1
        except AuditError as error:
            text = str(error)
            assert text and "\n" not in text, f"mutant {index}: {text!r}"
            assert len(text) < 1000, f"mutant {index}"
            outcomes["refused"] += 1
        except BaseException as error:
            (folder / f"escaped-{index}").write_bytes(data)
            raise AssertionError(
                f"mutant {index} raised {type(error).__name__}: {error}"
            ) from error
        assert time.perf_counter() - start < LIMIT, f"mutant {index} took too long"
        _write(path, folder / "out", index)
    return outcomes


def _audit(path: Path) -> None:
    """Every file rule; a rule that fell over reports ``incomplete``."""

    def emit(body: dict[str, Any], arrays: dict[str, Any]) -> None:
        check = body.get("check")
        assert check is None or check["status"] != "incomplete", check

    file_audit.run({"path": str(path), "checks": _RULES, "seconds": LIMIT}, {}, emit)


def _write(path: Path, folder: Path, index: int) -> None:
    """Write a copy with its first float weight at zero; a refusal leaves no file behind."""
    folder.mkdir(exist_ok=True)
    try:
        artifact = open_artifact(path)
        artifact.write(folder / "mutant.sanitized", _change(artifact), {"method": "fuzz"})
        assert (folder / "mutant.sanitized").stat().st_size > 0
        (folder / "mutant.sanitized").unlink()
    except AuditError as error:
        assert "\n" not in str(error), f"mutant {index}: {error!r}"
    except Exception as error:
        raise AssertionError(f"mutant {index} written: {type(error).__name__}: {error}") from error
    assert list(folder.iterdir()) == [], f"mutant {index} left something half-written"


def _change(artifact: Any) -> dict[str, Any]:
    if artifact.format == "onnx":
        stored = artifact.model.graph.initializers.items()
        tensors = {name: value.const_value for name, value in stored if value.const_value}
        sizes = {n: tuple(t.shape) for n, t in tensors.items() if t.dtype.name == "FLOAT"}
    else:
        sizes = {n: tuple(t.size) for n, t in artifact.stored.items() if t.dtype == "float32"}
    return {name: np.zeros(size, np.float32) for name, size in list(sizes.items())[:1]}


def test_200_mutated_files_give_no_traceback(tmp_path: Path) -> None:
    outcomes = _fuzz(tmp_path, 200)
    # Both ends must occur, or the mutations test nothing.
    assert outcomes["described"] > 10
    assert outcomes["refused"] > 10


@pytest.mark.timeout(1200)
@pytest.mark.slow
def test_2000_mutated_files_give_no_traceback(tmp_path: Path) -> None:
    outcomes = _fuzz(tmp_path, 2000)
    print(outcomes)
    assert min(outcomes.values()) > 100
