"""``audit diff``: what changed between two files, and what could not be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from auditor.app import run
from tests.sanitize.test_graph_cut import host
from zoo.inject_onnx import inject


def compared(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, dict[str, Any]]:
    code = run(["diff", *map(str, files), "--json", "--jobs", "1", "--size", "12x12"])
    return code, json.loads(capsys.readouterr().out)


def moved(capsys: pytest.CaptureFixture[str], before: Path, after: Path, bias: str) -> None:
    """Two of the values of `bias` are 3 and 4 higher, and nothing else is different."""
    code, found = compared(capsys, before, after)
    assert code == 0, found["incomplete"]
    assert found["parameters"]["changed"] == 2
    assert found["parameters"]["norm"] == pytest.approx(5.0, abs=1e-4)
    assert [row["name"] for row in found["parameters"]["tensors"]] == [bias]
    assert found["behaviour"]["max_difference"] == pytest.approx(4.0, abs=1e-4)
    assert found["nodes"]["added_count"] == found["nodes"]["removed_count"] == 0


def saved(network: nn.Module, path: Path) -> Path:
    """`network` as TorchScript or .pt2, by the suffix."""
    example = torch.zeros(2, 1, 12, 12)
    network.eval()
    if path.suffix == ".pt":
        torch.jit.trace(network, example).save(path)
    else:
        torch.export.save(torch.export.export(network, (example,)), path)
    return path


def test_changed_weights_are_counted_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host(tmp_path)
    model = onnx.load(before)
    bias = model.graph.initializer[3]
    values = numpy_helper.to_array(bias) + np.array([0, 3, 0, 4, 0], np.float32)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    after = tmp_path / "after.onnx"
    onnx.save(model, after)
    moved(capsys, before, after, "b2")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_changed_weights_of_torch_files_are_counted_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 5))
    before = saved(network, tmp_path / f"before{suffix}")
    with torch.no_grad():
        network[3].bias += torch.tensor([0.0, 3.0, 0.0, 4.0, 0.0])
    moved(capsys, before, saved(network, tmp_path / f"after{suffix}"), "3.bias")


def test_added_nodes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = host(tmp_path), tmp_path / "after.onnx"
    inject(before, after, "where", target=2)
    code, found = compared(capsys, before, after)
    assert code == 0
    assert any(name.startswith("Where") for name in found["nodes"]["added"])
    assert found["nodes"]["operators"]["Where"] == [0, 1]
    assert found["parameters"]["changed"] == 0


def test_a_changed_attribute_is_a_changed_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host(tmp_path)
    model = onnx.load(before)
    node = next(node for node in model.graph.node if node.attribute)
    node.attribute[0].doc_string = "moved"
    after = tmp_path / "after.onnx"
    onnx.save(model, after)
    _, found = compared(capsys, before, after)
    assert found["nodes"]["added_count"] == found["nodes"]["removed_count"] == 1
    assert found["nodes"]["added"][0].startswith(f"{node.op_type}(")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_changed_constant_of_torch_files_is_a_changed_line_or_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    files = []
    for name, limit in (("before", 6.0), ("after", 5.0)):
        parts = [nn.Flatten(), nn.Linear(144, 5), nn.Hardtanh(0.0, limit)]
        files.append(saved(nn.Sequential(*parts), tmp_path / f"{name}{suffix}"))
    _, found = compared(capsys, *files)
    assert found["nodes"]["added_count"] == found["nodes"]["removed_count"] == 1
    assert "hardtanh" in found["nodes"]["added"][0]


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
