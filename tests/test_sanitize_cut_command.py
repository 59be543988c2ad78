"""``audit sanitize`` end to end on triggers in the graph, without samples, and data-free."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.app import run
from tests.sanitize.test_graph_cut import host
from zoo.inject_onnx import inject


def test_a_graph_trigger_is_cut_and_the_copy_audits_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "bad.onnx", tmp_path / "out"
    inject(host(tmp_path), bad, "function", target=3)
    before = bad.read_bytes()
    assert run(["sanitize", str(bad), "--out", str(out), "--jobs", "1", "--size", "12x12"]) == 0
    capsys.readouterr()
    assert bad.read_bytes() == before
    written = json.loads((out / "report.json").read_text())["sanitized"]
    assert written["method"] == "graph-cut"
    assert "input 'x'" in written["after"]["repair.cut"][0]
    assert written["after"]["outputs.max_difference"] <= 1e-6
    copy = out / "bad.sanitized.onnx"
    assert run(["scan", str(copy), "--checks", "file", "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr()


def test_without_samples_a_method_that_needs_them_is_refused_in_words(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    alone = tmp_path / "alone.onnx"
    shutil.copyfile(digits_zoo / "backdoored.onnx", alone)
    out = tmp_path / "out"
    command = ["sanitize", str(alone), "--out", str(out), "--jobs", "1", "--method", "unlearning"]
    assert run(command) == 3
    assert "needs labelled samples" in capsys.readouterr().err
    assert not (out / "alone.sanitized.onnx").exists()
