"""The GitHub Action and pre-commit hooks: no injection, and the scan script run for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.report.registry import get_format, render
from tests.report.examples import backdoored_report, clean_report

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / ".github" / "action"
STUB = """\
#!{python}
import sys
from pathlib import Path
arguments = sys.argv[1:]
log = Path("{folder}/calls.txt")
with log.open("a") as stream:
    stream.write(repr(arguments) + "\\n")
if arguments[0] == "scan":
    sys.stdout.write(Path("{folder}/answer.json").read_text())
    sys.exit({code})
sys.path.insert(0, {root!r})
from auditor.app import main
main(arguments)
"""


def runs(text: str) -> list[str]:
    """The shell lines of an action."""
    return re.findall(r"^\s+run: (.*)$", text, re.MULTILINE)


def test_no_expression_reaches_a_shell_and_actions_are_pinned() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    assert len(runs(text)) == 4
    assert not [line for line in runs(text) if "${{" in line]
    uses = re.findall(r"uses: (\S+)", text)
    assert uses and all(re.search(r"@[0-9a-f]{40}$", action) for action in uses)
    for script in re.findall(r"\.github/action/(\w+\.sh)", text):
        assert (SCRIPTS / script).is_file()


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_valid_bash(script: Path) -> None:
    assert "${{" not in script.read_text("utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_hooks_name_a_command_and_the_files() -> None:
    text = (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8")
    assert re.findall(r"- id: (\S+)", text) == ["model-audit", "model-audit-system"]
    for pattern in re.findall(r"files: (.*)", text):
        assert re.search(pattern, "models/a.onnx")
        assert not re.search(pattern, "src/a.onnx.py")


class Repository:
    """A git repository with models, and a stub `audit` before the real one on the PATH."""

    def __init__(self, folder: Path, *, code: int, answer: str) -> None:
        self.folder = folder / "repo"
        self.temp = folder
        self.folder.mkdir()
        (folder / "answer.json").write_text(answer)
        stub = folder / "bin" / "audit"
        stub.parent.mkdir()
        stub.write_text(
            STUB.format(python=sys.executable, folder=folder, code=code, root=str(ROOT))
        )
        stub.chmod(0o755)
        self.git("init", "-q")
        self.commit("old.onnx")
        self.base = self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def commit(self, *names: str) -> None:
        for name in names:
            (self.folder / name).write_text(name)
        self.git("add", ".")
        self.git("commit", "-qm", "models")

    def scan(self, **inputs: str) -> dict[str, str]:
        output, summary = self.temp / "output", self.temp / "summary"
        output.write_text("")
        summary.write_text("")
        environment = os.environ | {
            "PATH": f"{self.temp / 'bin'}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            **inputs,
        }
        subprocess.run(
            ["bash", str(SCRIPTS / "scan.sh")], cwd=self.folder, check=True, env=environment
        )
        return dict(line.split("=", 1) for line in output.read_text().splitlines())

    def called(self) -> str:
        return (self.temp / "calls.txt").read_text().splitlines()[0]


pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_changed_models_are_scanned_and_the_reports_written(tmp_path: Path) -> None:
    repository = Repository(tmp_path, code=1, answer=render(backdoored_report(), "json"))
    repository.commit("new model.onnx", "$(touch pwned).pt", "notes.txt")
    outputs = repository.scan(BASE_SHA=repository.base, INPUT_FAIL_ON="low")
    assert outputs["exit-code"] == "1"
    call = repository.called()
    assert call.endswith("'--', '$(touch pwned).pt', 'new model.onnx']")
    assert "'--fail-on', 'low'" in call
    assert not (repository.folder / "pwned").exists()
    assert '"2.1.0"' in Path(outputs["sarif"]).read_text()
    assert Path(outputs["markdown"]).read_text() == (tmp_path / "summary").read_text()
    assert "digits-backdoored" in (tmp_path / "summary").read_text()


def test_patterns_and_a_missing_base(tmp_path: Path) -> None:
    both = get_format("json").render_many([clean_report(), clean_report()])
    repository = Repository(tmp_path, code=0, answer=both)
    repository.commit("a.onnx", "b.onnx")
    (repository.folder / "deep" / "er").mkdir(parents=True)
    (repository.folder / "deep" / "er" / "c c.pt").write_text("")
    assert repository.scan(INPUT_MODELS="**/c c.pt\nnone.onnx")["exit-code"] == "0"
    assert repository.called().endswith("'--', 'deep/er/c c.pt', 'none.onnx']")
    (tmp_path / "calls.txt").unlink()
    assert repository.scan(INPUT_MODELS="[ab].onnx\n")["exit-code"] == "0"
    assert repository.called().endswith("'--', 'a.onnx', 'b.onnx']")
    (tmp_path / "calls.txt").unlink()
    repository.scan(BASE_SHA="0" * 40)
    assert repository.called().endswith("'--', 'a.onnx', 'b.onnx', 'old.onnx']")


def test_nothing_changed_is_no_scan(tmp_path: Path) -> None:
    repository = Repository(tmp_path, code=0, answer="")
    assert repository.scan(BASE_SHA=repository.base) == {}
