"""``audit diff``: what changed between two files, and what could not be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from auditor.app import run
from tests.sanitize.test_graph_cut import host
from zoo.inject_onnx import inject


def compared(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, dict[str, Any]]:
    code = run(["diff", *map(str, files), "--json", "--jobs", "1", "--size", "12x12"])
    return code, json.loads(capsys.readouterr().out)


def test_changed_weights_are_counted_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host(tmp_path)
    model = onnx.load(before)
    bias = model.graph.initializer[3]
    moved = numpy_helper.to_array(bias) + np.array([0, 3, 0, 4, 0], np.float32)
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    after = tmp_path / "after.onnx"
    onnx.save(model, after)
    code, found = compared(capsys, before, after)
    assert code == 0, found["incomplete"]
    assert found["parameters"]["changed"] == 2
    assert found["parameters"]["norm"] == pytest.approx(5.0, abs=1e-4)
    assert [row["name"] for row in found["parameters"]["tensors"]] == ["b2"]
    assert found["behaviour"]["max_difference"] == pytest.approx(4.0, abs=1e-4)
    assert found["nodes"]["added_count"] == found["nodes"]["removed_count"] == 0


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_changed_weights_of_torch_files_are_counted_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 5)).eval()
    example = torch.rand(2, 1, 12, 12)
    files = []
    for name in ("before", "after"):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".pt":
            torch.jit.trace(network, example).save(path)
        else:
            torch.export.save(torch.export.export(network, (example,)), path)
        files.append(path)
        with torch.no_grad():
            network[3].bias += torch.tensor([0.0, 3.0, 0.0, 4.0, 0.0])
    code = run(["diff", *map(str, files), "--json", "--jobs", "1", "--size", "12x12"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0, found["incomplete"]
    assert found["parameters"]["changed"] == 2
    assert found["parameters"]["norm"] == pytest.approx(5.0, abs=1e-4)
    assert [row["name"] for row in found["parameters"]["tensors"]] == ["3.bias"]
    assert found["behaviour"]["max_difference"] == pytest.approx(4.0, abs=1e-4)
    assert found["nodes"]["added_count"] == found["nodes"]["removed_count"] == 0


def test_added_nodes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = host(tmp_path), tmp_path / "after.onnx"
    inject(before, after, "where", target=2)
    code, found = compared(capsys, before, after)
    assert code == 0
    assert any(name.startswith("Where") for name in found["nodes"]["added"])
    assert found["nodes"]["operators"]["Where"] == [0, 1]
    assert found["parameters"]["changed"] == 0


def test_a_file_is_the_same_as_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = host(tmp_path)
    code, found = compared(capsys, before, before)
    assert code == 0
    assert found["identical"]
    assert found["behaviour"]["identical"]
    assert found["parameters"]["changed"] == 0


def test_an_unreadable_file_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    assert run(["diff", str(host(tmp_path)), str(broken)]) == 2
    assert "broken.onnx" in capsys.readouterr().err
