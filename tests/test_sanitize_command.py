"""``audit sanitize``: a copy or the sentence why there is none; never half of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.app import run


def sanitize(model: Path, out: Path, *options: str) -> int:
    return run(
        ["sanitize", str(model), "--data", "digits", "--out", str(out), "--jobs", "1", *options]
    )


def test_a_copy_is_written_and_both_columns_are_shown(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = digits_zoo / "backdoored.pt"
    before = model.read_bytes()
    assert sanitize(model, tmp_path) == 0
    shown = capsys.readouterr().out
    assert "before" in shown and "after" in shown
    assert "backdoored.sanitized.pt" in shown
    assert model.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"backdoored.sanitized.pt", "report.json"}
    written = json.loads((tmp_path / "report.json").read_text())["sanitized"]
    assert written["after"]["accuracy.clean"] >= written["before"]["accuracy.clean"] - 0.02


def test_no_copy_is_exit_3_with_the_reason_and_no_file(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten samples are too few to repair anything with."""
    out = tmp_path / "out"
    model = digits_zoo / "backdoored.onnx"
    few = ("--data", str(_few(tmp_path)), "--budget", "5")
    assert sanitize(model, out, *few) == 3
    said = capsys.readouterr()
    assert "Not sanitized" in said.err and "at least" in said.err
    assert [p.name for p in out.iterdir()] == ["report.json"]


def _few(folder: Path) -> Path:
    import numpy as np

    from auditor.samples.readers import read_samples

    samples = read_samples("digits").take(slice(0, 12))
    np.savez(folder / "few.npz", x=samples.pixels, y=samples.labels)
    return folder / "few.npz"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "prayer"), "prayer"),
        (("--max-accuracy-drop", "200"), "--max-accuracy-drop"),
        ((), "missing.onnx"),
    ],
)
def test_bad_input_is_exit_2_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out"
    assert sanitize(tmp_path / "missing.onnx", out, *options) == 2
    said = capsys.readouterr()
    assert words in said.err and said.out == ""
    assert not out.exists()
