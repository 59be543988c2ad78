"""Interrupted at any point: the input as it was, and no copy or part of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditor.proof import publish
from tests.sanitize.test_graph_cut import host
from zoo.inject_onnx import inject


def interrupted(bad: Path, folder: Path, sign: signal.Signals, after: float, *options: str) -> None:
    """`audit sanitize bad` gets `sign` `after` seconds: the input is whole, and so is any copy."""
    before, out, room = bad.read_bytes(), folder / "out", folder / "room"
    room.mkdir()
    command = [sys.executable, "-c", "from auditor.app import main; main()", "sanitize", str(bad)]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--jobs", "1", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(room)},
        start_new_session=True,
    )
    time.sleep(after)
    process.send_signal(sign)
    code = process.wait(timeout=120)
    assert sign != signal.SIGTERM or code in {0, 1, 128 + sign}
    assert bad.read_bytes() == before
    if sign != signal.SIGKILL:
        assert not list(room.iterdir())
    left = {path.name for path in out.iterdir()} if out.exists() else set()
    assert left <= {"bad.sanitized.onnx", "report.json"}
    if "bad.sanitized.onnx" in left:
        # It was quicker than the signal: then the copy is whole.
        import onnx

        onnx.checker.check_model(str(out / "bad.sanitized.onnx"), full_check=True)


@pytest.mark.parametrize(
    ("sign", "after"),
    [
        (signal.SIGINT, 0.5),
        (signal.SIGINT, 4.0),
        (signal.SIGTERM, 3.0),
        (signal.SIGTERM, 5.0),
        (signal.SIGKILL, 1.0),
        (signal.SIGKILL, 5.0),
    ],
)
def test_a_killed_run_leaves_no_part_of_a_copy(
    tmp_path: Path, sign: signal.Signals, after: float
) -> None:
    bad = tmp_path / "bad.onnx"
    inject(host(tmp_path), bad, "where", target=3)
    interrupted(bad, tmp_path, sign, after, "--size", "12x12")


@pytest.mark.parametrize(
    ("sign", "after"),
    [
        (signal.SIGINT, 8.0),
        pytest.param(signal.SIGKILL, 12.0, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 16.0, marks=pytest.mark.slow),
    ],
)
def test_a_killed_repair_of_weights_leaves_no_part_of_a_copy(
    digits_zoo: Path, tmp_path: Path, sign: signal.Signals, after: float
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes((digits_zoo / "backdoored.onnx").read_bytes())
    interrupted(bad, tmp_path, sign, after, "--data", "digits")


def test_a_copy_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "out"
    source.write_bytes(b"first")
    publish([source], out)
    source.write_bytes(b"second")
    publish([source], out)
    assert (out / "m.onnx").read_bytes() == b"second"
    assert [path.name for path in out.iterdir()] == ["m.onnx"]


def test_data_beside_the_model_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import auditor.proof as proof

    order: list[str] = []
    monkeypatch.setattr(proof, "_appear", lambda source, target: order.append(target.name))
    publish([tmp_path / "m.onnx", tmp_path / "m.onnx.data"], tmp_path / "out")
    assert order == ["m.onnx.data", "m.onnx"]
