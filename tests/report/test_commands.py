"""`audit show`, `audit compare` and `audit policy` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from auditor.commands import compare, policy, show
from auditor.errors import AuditError
from auditor.report.model import Report
from auditor.report.registry import BUILT_IN, get_format, render
from tests.report.examples import ALL, backdoored_report, clean_report


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    for module in (show, compare, policy):
        module.register(made)
    return made


def run(app: typer.Typer, *arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def saved(folder: Path, name: str, report: Report) -> Path:
    path = folder / f"{name}.json"
    path.write_text(render(report, "json"))
    return path


@pytest.mark.parametrize("name", [n for n in BUILT_IN if n != "table"])
def test_show_gives_the_same_text_as_the_scan_did(
    app: typer.Typer, tmp_path: Path, name: str
) -> None:
    path = saved(tmp_path, "a", backdoored_report())
    result = run(app, "show", path, "--format", name)
    assert result.exit_code == 0
    assert result.stdout == render(backdoored_report(), name)


def test_show_prints_tables_of_an_envelope(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(get_format("json").render_many([make() for make in ALL.values()]))
    result = run(app, "show", path)
    assert result.exit_code == 0
    assert "FAIL" in result.stdout
    assert "Models" in result.stdout


def test_show_writes_a_file(app: typer.Typer, tmp_path: Path) -> None:
    target = tmp_path / "new" / "r.html"
    result = run(app, "show", saved(tmp_path, "a", clean_report()), "-f", "html", "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert target.read_text("utf-8").startswith("<!doctype html>")


def test_show_of_no_report_is_an_audit_error(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert isinstance(run(app, "show", tmp_path / "x.json").exception, AuditError)


def test_compare_finds_the_new_backdoor(app: typer.Typer, tmp_path: Path) -> None:
    clean = saved(tmp_path, "clean", clean_report())
    bad = saved(tmp_path, "bad", backdoored_report())
    result = run(app, "compare", clean, bad, "--json")
    data = json.loads(result.stdout)
    assert result.exit_code == 1
    assert data["regressions"][0] == "the verdict went from pass to fail"
    assert any("probe.trigger" in line for line in data["regressions"])
    assert any("probe.asr.max went from 0.08 to 0.991" in line for line in data["regressions"])
    assert [f["rule"] for f in data["new_findings"]] == ["probe.trigger", "graph.metadata.path"]
    text = run(app, "compare", clean, bad)
    assert text.exit_code == 1
    assert "Worse" in text.stdout


def test_compare_the_other_way_is_no_regression(app: typer.Typer, tmp_path: Path) -> None:
    clean = saved(tmp_path, "clean", clean_report())
    bad = saved(tmp_path, "bad", backdoored_report())
    result = run(app, "compare", bad, clean)
    assert result.exit_code == 0
    assert "Nothing got worse" in result.stdout
    assert run(app, "compare", clean, clean).exit_code == 0


@pytest.mark.parametrize(
    ("metric", "before", "after", "code"),
    [
        ("accuracy.clean", 0.98, 0.95, 1),
        ("accuracy.clean", 0.98, 0.975, 0),
        ("accuracy.clean", 0.95, 0.98, 0),
        ("robustness.pgd@0.1", 0.6, 0.4, 1),
        ("backdoor.probability", 0.1, 0.4, 1),
        ("something.else", 1, 100, 0),
    ],
)
def test_compare_knows_which_way_a_metric_should_go(
    app: typer.Typer, tmp_path: Path, metric: str, before: float, after: float, code: int
) -> None:
    paths = [
        saved(tmp_path, str(i), clean_report().model_copy(update={"metrics": {metric: value}}))
        for i, value in enumerate((before, after))
    ]
    assert run(app, "compare", *paths).exit_code == code


def test_compare_misses_a_check_that_no_longer_runs(app: typer.Typer, tmp_path: Path) -> None:
    report = clean_report()
    fewer = report.model_copy(update={"checks": report.checks[:-1]})
    result = run(app, "compare", saved(tmp_path, "a", report), saved(tmp_path, "b", fewer))
    assert result.exit_code == 1
    assert "robustness.fgsm ran before" in result.stdout


def test_policy_check_lists_every_mistake_with_its_line(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_text("# 1\n# 2\n# 3\n# 4\n# 5\n# 6\nfail_on = 'hgih'\nnope = 1\n")
    result = run(app, "policy", "check", path)
    assert result.exit_code == 2
    assert "audit.toml:7: fail_on" in result.stderr
    assert "audit.toml:8: unknown key nope" in result.stderr
    assert result.stdout == ""


def test_policy_check_and_show_find_the_file(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audit.toml").write_text("fail_on = 'medium'\n")
    assert "fails on medium" in run(app, "policy", "check").stdout
    shown = json.loads(run(app, "policy", "show").stdout)
    assert (shown["fail_on"], shown["source"]) == ("medium", "audit.toml")
