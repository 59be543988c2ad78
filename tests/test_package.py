"""The shape of the package: import rules, public names, and a wheel that works elsewhere."""

from __future__ import annotations

import ast
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import auditor

ROOT = Path(auditor.__file__).parents[1]
HEAVY = {"torch", "sklearn", "matplotlib", "onnxruntime", "torchvision", "scipy"}


def imports(path: Path) -> set[str]:
    """Top-level packages imported anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize(
    ("package", "forbidden"), [("auditor", {"zoo", "cli", "tests"}), ("zoo", {"cli", "tests"})]
)
def test_imports_point_one_way(package: str, forbidden: set[str]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert not imports(path) & forbidden, path


def test_public_names() -> None:
    assert auditor.__all__ == ["ScanOptions", "__version__", "open_artifact", "scan"]
    for name in auditor.__all__:
        assert getattr(auditor, name) is not None
    with pytest.raises(AttributeError):
        auditor.nothing  # noqa: B018


def test_checks_do_not_print_or_know_reports() -> None:
    for path in (ROOT / "auditor" / "checks").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "auditor.report" not in text, path
        assert "print(" not in text, path


def test_wheel_installs_and_runs_in_a_clean_environment(tmp_path: Path) -> None:
    """Dependencies are lent by this environment: the wheel itself is what is tried."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "-o",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
    )
    site = next((tmp_path / "env" / "lib").glob("python3*/site-packages"))
    lent = [p for p in sys.path if p.endswith("site-packages")]
    (site / "lent.pth").write_text("\n".join(lent) + "\n")
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "audit", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"audit {auditor.__version__}"
    where = subprocess.run(
        [python, "-P", "-c", "import auditor, zoo; print(auditor.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in where.stdout
    templates = list((site / "auditor" / "report").rglob("*.j2"))
    assert templates, "the HTML templates are missing from the wheel"
    assert (site / "auditor" / "report" / "schema").is_dir()
    assert not (site / "cli.py").exists()
