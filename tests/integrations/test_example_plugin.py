"""The worked example installs with pip and shows up everywhere, without a change to our code."""

from __future__ import annotations

import importlib.util
import json
import os
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "model-auditor-example"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`audit` in a fresh environment that sees ours and has the example installed by pip."""
    folder = tmp_path_factory.mktemp("plugin") / "env"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    [packages] = (folder / "lib").glob("python*/site-packages")
    ours = "\n".join([str(ROOT), *site.getsitepackages()])
    (packages / "ours.pth").write_text(ours + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-deps"]
    if importlib.util.find_spec("hatchling"):
        command.append("--no-build-isolation")
    subprocess.run([*command, str(EXAMPLE)], check=True)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        script = "from auditor.app import main; main()"
        return subprocess.run(
            [python, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | {"COLUMNS": "120"},
            check=False,
        )

    return run


def linear_model(path: Path, features: int) -> Path:
    """An ONNX file of one Flatten and one MatMul to two classes."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [features, 2], [0.1] * (features * 2))
    side = int(features**0.5)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_the_checks_are_listed_with_their_origin(audit: Run) -> None:
    listed = audit("checks").stdout
    for name in ("example.size", "example.brightness"):
        [line] = [line for line in listed.splitlines() if line.strip().startswith(name)]
        assert "model-auditor-example" in line


def test_the_file_check_is_in_the_report(audit: Run, tmp_path: Path) -> None:
    model = linear_model(tmp_path / "m.onnx", 64)
    done = audit("scan", model, "--profile", "file", "--json", "--out", tmp_path / "out")
    report = json.loads(done.stdout)
    assert "example.size" in [check["name"] for check in report["checks"]], done.stderr
    assert report["metrics"]["example.size.parameters"] == 128
    skipped = {check["name"]: check for check in report["checks"]}["example.brightness"]
    assert (skipped["status"], bool(skipped["reason"])) == ("skipped", True)


def test_the_format_renders(audit: Run, tmp_path: Path) -> None:
    model = linear_model(tmp_path / "m.onnx", 64)
    out = tmp_path / "out"
    done = audit("scan", model, "--profile", "file", "--format", "oneline", "--out", out)
    assert (out / "report.oneline.txt").read_text().startswith("review: m.onnx"), done.stderr
