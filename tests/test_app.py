"""The command line: exit codes, streams, speed of --help, and the documented wrong inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

import auditor

ROOT = Path(auditor.__file__).parents[1]


def audit(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from auditor.app import main; main()", *arguments]
    kept = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=240, check=False
    )


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from auditor.app import run, mount, app, GROUP\n"
        "from importlib.metadata import entry_points\n"
        "mount(app, list(entry_points(group=GROUP)))\n"
        "run(['--help'])\n"
        "heavy = {'torch','sklearn','matplotlib','onnx','onnxruntime','scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for name in ("scan", "inspect", "checks", "rules", "explain", "show", "compare", "policy"):
        assert name in done.stdout
    for name in ("zoo", "demo"):
        assert name in done.stdout


def test_help_takes_little_processor_time() -> None:
    """Processor time, so that a busy machine does not fail it; half a second is the promise."""
    best = min(_cpu("--help") for _ in range(3))
    assert best < 0.5


def _cpu(*arguments: str) -> float:
    before = os.times()
    audit(*arguments)
    after = os.times()
    return (
        after.children_user
        + after.children_system
        - (before.children_user + before.children_system)
    )


def test_version_from_another_folder(tmp_path: Path) -> None:
    assert audit("--version", cwd=tmp_path).stdout.strip() == f"audit {auditor.__version__}"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid file, so that the usage is what is wrong."""
    value = onnx.helper.make_tensor_value_info
    sides = [value(n, onnx.TensorProto.FLOAT, [1, 2]) for n in ("x", "y")]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "tiny", sides[:1], sides[1:])
    path = tmp_path_factory.mktemp("tiny") / "model.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("scan", "nothing.onnx"), "nothing.onnx"),
        (("scan", "x.onnx", "--fail-on", "sometimes"), "--fail-on"),
        (("scan", "MODEL", "--checks", "magic"), "magic"),
        (("scan", "x.onnx", "--format", "papyrus"), "papyrus"),
        (("scan", "x.onnx", "--profile", "deep"), "--profile"),
        (("scan", "x.onnx", "--memory", "much"), "--memory"),
        (("scan", "x.onnx", "--size", "big"), "--size"),
        (("scan", "x.onnx", "--mean", "a,b"), "--mean"),
        (("scan",), "models"),
        (("explain", "no.rule"), "no.rule"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_wrong_usage_is_exit_2_without_traceback(
    tmp_path: Path, tiny_model: Path, arguments: tuple[str, ...], words: str
) -> None:
    given = [str(tiny_model) if word == "MODEL" else word for word in arguments]
    done = audit(*given, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("nothing.onnx",), ("x.onnx", "--fail-on", "never!")])
def test_json_is_json_on_errors_too(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = audit("scan", *arguments, "--json", cwd=tmp_path, COLUMNS="20")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert report["error"]["message"]
    assert report["exit_code"] == 2


def test_scan_writes_reports_and_json_alone_on_stdout(digits_zoo: Path, tmp_path: Path) -> None:
    model = str(digits_zoo / "clean.onnx")
    options = ("--data", "digits", "--checks", "file,accuracy")
    done = audit("scan", model, *options, "--json", cwd=tmp_path, COLUMNS="20")
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] == "pass"
    written = tmp_path / "audit-reports" / "clean.onnx" / "report.json"
    assert json.loads(written.read_text()) == json.loads(done.stdout)


def test_several_models_and_formats(digits_zoo: Path, tmp_path: Path) -> None:
    models = [str(digits_zoo / "clean.onnx"), str(tmp_path / "missing.onnx")]
    formats = "table,json,html,markdown,sarif,cyclonedx,junit"
    done = audit(
        "scan", *models, "--data", "digits", "--checks", "file,accuracy", "--format", formats,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    folder = tmp_path / "audit-reports" / "clean.onnx"
    assert len(list(folder.iterdir())) == 6
    assert "PASS" in done.stdout
    assert "missing.onnx" in done.stderr


def test_a_policy_in_the_models_folder_is_not_obeyed(digits_zoo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((digits_zoo / "clean.onnx").read_bytes())
    (folder / "audit.toml").write_text('fail_on = "never"\n')
    work = tmp_path / "work"
    work.mkdir()
    done = audit("scan", str(folder / "model.onnx"), "--profile", "file", "--json", cwd=work)
    assert json.loads(done.stdout)["policy"]["source"] == "default"


def test_inspect_says_what_it_is_and_what_can_be_probed(digits_zoo: Path) -> None:
    done = audit("inspect", str(digits_zoo / "clean.pt"))
    assert done.returncode == 0
    assert "torchscript" in done.stdout
    assert "Gradients: yes" in done.stdout
    record = json.loads(audit("inspect", str(digits_zoo / "clean.onnx"), "--json").stdout)
    assert record["format"] == "onnx"
    assert record["loaded"]["classes"] == 10


def test_rules_and_checks_are_listed() -> None:
    assert "graph.trigger" in audit("rules").stdout
    assert "probe" in audit("checks").stdout
    assert "What to do" in audit("explain", "graph.trigger").stdout


def test_cli_file_runs_from_a_checkout() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("audit ")


def test_start_up_of_a_static_scan_is_quick(digits_zoo: Path, tmp_path: Path) -> None:
    """The promise is 1.5 s on a quiet machine; processor time leaves a busy one out of it."""
    model = str(digits_zoo / "clean.onnx")
    started = time.monotonic()
    best = float("inf")
    for _ in range(12):  # a shared machine has slow spells of many seconds
        best = min(best, _cpu("scan", model, "--profile", "file", "--out", str(tmp_path), "-q"))
        if best < 1.5:
            break
        time.sleep(2)
    assert best < 1.5, (best, time.monotonic() - started)
