"""Every format on every example, official schemas, and no way out for hostile strings."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from auditor.errors import UsageError
from auditor.report import registry
from auditor.report.interface import Format
from auditor.report.markdown import escape
from auditor.report.model import Report
from auditor.report.registry import BUILT_IN, get_format, render
from auditor.report.text import number, size, visible
from tests.report.examples import (
    ALL,
    HOSTILE,
    backdoored_report,
    clean_report,
    error_report,
    hostile_report,
)

SARIF_SCHEMA = Path(__file__).parents[1] / "data" / "schemas" / "sarif-2.1.0.json"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f]")


def sarif(*reports: Report) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(get_format("sarif").render_many(reports))
    schema = json.loads(SARIF_SCHEMA.read_text("utf-8"))
    jsonschema.Draft4Validator(schema).validate(log)
    return log


def bom(*reports: Report) -> dict[str, Any]:
    text = get_format("cyclonedx").render_many(reports)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parsed: dict[str, Any] = json.loads(text)
    return parsed


@pytest.mark.parametrize("example", ALL)
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_format_renders_every_report_the_same_twice(name: str, example: str) -> None:
    report = ALL[example]()
    text = render(report, name)
    assert text.endswith("\n")
    assert text == render(ALL[example](), name)
    assert not STEERING.search(text)


@pytest.mark.parametrize("name", BUILT_IN)
def test_several_reports_in_one_text(name: str) -> None:
    reports = [make() for make in ALL.values()]
    text = get_format(name).render_many(reports)
    assert "digits-clean" in text
    assert "digits-backdoored" in text


def test_registered_attributes_are_complete() -> None:
    made = [get_format(name) for name in BUILT_IN]
    assert [f.name for f in made] == list(BUILT_IN)
    assert len({f.filename for f in made}) == len(made)
    assert all(f.title for f in made)


def test_an_unknown_format_is_told_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown format 'pdf'.*sarif"):
        get_format("pdf")


class Shout(Format):
    """A third party's format."""

    name, title, filename = "shout", "LOUD", "report.loud"

    def render(self, report: Report) -> str:
        return report.verdict.upper()


def test_third_party_formats_register_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(group: str) -> list[registry.EntryPoint]:
        made = [("shout", f"{__name__}:Shout"), ("broken", "no.such:Thing"), ("json", "x:Y")]
        return [registry.EntryPoint(name, value, group) for name, value in made]

    monkeypatch.setattr(registry, "entry_points", points)
    registry._points.cache_clear()
    try:
        assert {"shout", "broken"} <= set(registry._points()[0])
        assert render(clean_report(), "shout") == "PASS"
        assert get_format("json").filename == "report.json"
        assert "json" in registry.problems()[0]
        with pytest.raises(UsageError, match="'broken' could not be loaded"):
            get_format("broken")
    finally:
        registry._points.cache_clear()


@pytest.mark.parametrize("example", ALL)
def test_sarif_validates_and_has_what_github_wants(example: str) -> None:
    log = sarif(ALL[example]())
    [run] = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        for key in ("shortDescription", "fullDescription", "help"):
            assert 0 < len(rule[key]["text"]) <= 1024
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        [location] = result["locations"]
        region = location["physicalLocation"]["region"]
        assert region == {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert not uri.startswith(("/", "file:"))
        assert re.fullmatch(
            r"[0-9a-f]{16}:1", result["partialFingerprints"]["primaryLocationLineHash"]
        )


def test_sarif_of_a_backdoor() -> None:
    [run] = sarif(backdoored_report())["runs"]
    first = run["results"][0]
    assert (first["ruleId"], first["level"]) == ("probe.trigger", "error")
    rule = run["tool"]["driver"]["rules"][0]
    assert rule["properties"]["security-severity"] == "8.0"
    assert run["automationDetails"]["id"] == "audit/zoo/digits-backdoored.onnx/"
    assert run["artifacts"][0]["hashes"] == {"sha-256": "ab" * 32}


def test_sarif_fingerprints_differ_by_model_and_not_by_run() -> None:
    def prints(report: Report) -> list[str]:
        [run] = sarif(report)["runs"]
        return [r["partialFingerprints"]["primaryLocationLineHash"] for r in run["results"]]

    report = backdoored_report()
    moved = report.model_copy(
        update={"artifact": report.artifact.model_copy(update={"path": "other.onnx"})}
    )
    retrained = report.model_copy(
        update={"artifact": report.artifact.model_copy(update={"sha256": "cd" * 32})}
    )
    assert prints(report) == prints(retrained)
    assert not set(prints(report)) & set(prints(moved))


def test_sarif_of_many_models_is_one_run_with_each_rule_once() -> None:
    log = sarif(backdoored_report(), backdoored_report(), clean_report())
    [run] = log["runs"]
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(ids) == len(set(ids))
    assert len(run["artifacts"]) == 2
    assert {
        r["locations"][0]["physicalLocation"]["artifactLocation"]["index"] for r in run["results"]
    } == {0}


def test_sarif_tells_of_crashed_checks_and_errors() -> None:
    [run] = sarif(hostile_report())["runs"]
    levels = [n["level"] for n in run["invocations"][0]["toolExecutionNotifications"]]
    assert "warning" in levels
    [run] = sarif(error_report())["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False


def test_sarif_has_no_links_from_a_model() -> None:
    report = backdoored_report()
    finding = report.findings[0].model_copy(update={"evidence": "[click](http://evil.invalid)"})
    text = render(report.model_copy(update={"findings": (finding,)}), "sarif")
    assert "](" not in text


@pytest.mark.parametrize("example", ALL)
def test_cyclonedx_validates(example: str) -> None:
    [component] = bom(ALL[example]())["components"]
    assert component["type"] == "machine-learning-model"


def test_cyclonedx_of_a_backdoor() -> None:
    parsed = bom(backdoored_report())
    [component] = parsed["components"]
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {"type": "accuracy.clean", "value": "0.9806"} in metrics
    assert component["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    ids = [v["id"] for v in parsed["vulnerabilities"]]
    assert ids == ["probe.trigger", "graph.metadata.path"]
    assert parsed["vulnerabilities"][1]["cwes"] == [200]


def test_cyclonedx_of_many_models() -> None:
    assert len(bom(*(make() for make in ALL.values()))["components"]) == len(ALL)


def test_junit_has_a_case_for_every_check() -> None:
    root = ElementTree.fromstring(render(backdoored_report(), "junit"))
    [suite] = root
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert set(cases) == {"graph.rules", "accuracy", "clusters", "probe", "robustness.fgsm"}
    failure = cases["probe"].find("failure")
    assert failure is not None
    assert failure.get("type") == "probe.trigger"
    assert cases["graph.rules"].find("failure") is None, "a low finding does not fail a case"
    assert (root.get("failures"), root.get("errors"), root.get("tests")) == ("1", "0", "5")


def test_junit_of_skipped_crashed_and_unreadable() -> None:
    root = ElementTree.fromstring(render(hostile_report(), "junit"))
    assert (root.get("skipped"), root.get("errors"), root.get("failures")) == ("1", "1", "1")
    root = ElementTree.fromstring(render(error_report(), "junit"))
    assert root.get("errors") == "1"


def test_csv_has_one_line_a_model_and_no_formula() -> None:
    report = clean_report()
    evil = report.model_copy(
        update={"artifact": report.artifact.model_copy(update={"path": "=cmd|' /C calc'!A0"})}
    )
    rows = list(csv.DictReader(io.StringIO(get_format("csv").render_many([report, evil]))))
    assert [row["verdict"] for row in rows] == ["pass", "pass"]
    assert rows[0]["clean_accuracy"] == "0.9806"
    assert rows[1]["path"].startswith("'=")


def test_markdown_is_inert() -> None:
    text = render(hostile_report(), "markdown")
    assert "<script" not in text
    assert "<img" not in text
    assert "http://" not in text
    allowed = {"!--", "details", "/details", "summary", "/summary", "br"}
    assert set(re.findall(r"<([!/a-z-]+)", text)) <= allowed


def test_markdown_escapes_mentions_references_and_tables() -> None:
    shown = escape("@team #12 | a `b` *c* [d](e) <f>\n- g")
    assert not set(shown.replace("<!-- -->", "").replace("&#", "")) & set("@#|`*[]()<>\n")


@pytest.mark.parametrize("text", ["- a", "+ a", "1. a", "12) a", "=== a"])
def test_markdown_starts_no_list_from_a_model(text: str) -> None:
    assert not re.match(r"([-+=]|\d+[.)])", escape(text))


def test_table_fits_80_columns_and_leads_with_the_verdict() -> None:
    lines = render(backdoored_report(), "table").splitlines()
    assert max(map(len, lines)) <= 80
    assert "FAIL" in lines[0]


def test_table_does_not_interpret_markup() -> None:
    assert "[bold]markup" in re.sub(r"[\s│]", "", render(hostile_report(), "table"))


def test_html_escapes_everything_from_the_model() -> None:
    text = render(hostile_report(), "html")
    assert HOSTILE not in text
    assert text.count("<script") == 1
    assert "<img src=x" not in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\nb\tc", "a b c"),
        ("\x9b", "\\x9b"),
        ("\u200b", "\\u200b"),
        ("naïve 猫 🐈", "naïve 猫 🐈"),
    ],
)
def test_steering_characters_become_visible(given: str, shown: str) -> None:
    assert visible(given) == shown


def test_numbers_for_people() -> None:
    assert [number(v) for v in (True, 12345, 0.5, 1e-9, 0.0, "x")] == [
        "yes",
        "12,345",
        "0.5",
        "1e-09",
        "0",
        "x",
    ]
    assert [size(n) for n in (5, 1234, 5_600_000)] == ["5 B", "1.2 kB", "5.6 MB"]
