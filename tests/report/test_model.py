"""The report model: keys that stay, nulls where promised, all encodable, schema current."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import auditor.report
from auditor.errors import UsageError
from auditor.findings import CheckResult, Figure
from auditor.report.build import Parts, build_report, clean_json, display_path
from auditor.report.model import NULLABLE, Report, SamplesRecord, load_report, report_schema
from auditor.report.registry import render
from auditor.verdict import decide
from tests.report.examples import ALL, backdoored_report, clean_report, error_report

SCHEMA = Path(auditor.report.__file__).parent / "schema" / "report-1.json"

CONTRACT = {
    "": "schema_version tool artifact samples verdict backdoor checks findings sanitized policy "
    "environment seed seconds notices suppressions metrics",
    "tool": "name version",
    "artifact": "path format sha256 bytes producer opset inputs outputs parameters",
    "samples": "source count classes preprocessing clean_accuracy",
    "backdoor": "probability outside_calibration calibration target_classes trigger",
    "backdoor.trigger": "family size asr image",
    "checks.0": "name status reason seconds metrics",
    "findings.0": "rule severity title evidence why remedy target_class fingerprint",
    "sanitized": "path method before after",
}


def build(*checks: CheckResult, **options: Any) -> Report:
    return build_report(
        Parts("m.onnx", checks=checks, **options), decide([], [], samples_given=True)
    )


def nulls(value: Any, key: str = "") -> set[str]:
    """The keys that are null anywhere."""
    if value is None:
        return {key}
    children = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        children = ((key, item) for item in value)
    return set().union(*(nulls(child, name) for name, child in children))


def test_the_published_schema_is_current() -> None:
    assert json.loads(SCHEMA.read_text("utf-8")) == report_schema(), (
        "run: python -m auditor.report.schema"
    )


@pytest.mark.parametrize("name", ALL)
def test_json_validates_and_reads_back(name: str, tmp_path: Path) -> None:
    report = ALL[name]()
    text = render(report, "json")
    assert text.isascii()
    data = json.loads(text)
    jsonschema.Draft202012Validator(report_schema()).validate(data)
    assert nulls(data) <= NULLABLE
    path = tmp_path / "report.json"
    path.write_text(text)
    assert load_report(path) == report


def test_the_keys_of_the_contract_are_there() -> None:
    data = backdoored_report().to_json()
    for place, keys in CONTRACT.items():
        part: Any = data
        for step in filter(None, place.split(".")):
            part = part[int(step)] if step.isdecimal() else part[step]
        assert set(keys.split()) <= set(part), place


def test_the_schema_refuses_null_where_a_key_may_be_absent() -> None:
    data = clean_report().to_json()
    data["samples"]["clean_accuracy"] = None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, report_schema())


def test_an_unreadable_model_is_a_report_with_an_error() -> None:
    data = error_report().to_json()
    assert data["error"] == {
        "kind": "unreadable",
        "message": "models/x.onnx is empty: download it again",
    }
    assert (data["verdict"], data["exit_code"]) == ("incomplete", 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, [1.0, math.nan], {"x": [-math.inf]}, object()])
def test_what_is_no_json_is_left_out_and_said(bad: Any) -> None:
    report = build(CheckResult("c", "passed", "", 0.1, metrics={"m.x": bad, "m.y": 1}))
    assert report.checks[0].metrics == {"m.y": 1}
    assert "m.x" not in report.metrics
    assert any("m.x" in notice for notice in report.notices)


def test_numpy_values_become_plain() -> None:
    values = {"a": np.float32(0.5), "b": np.arange(3), "c": np.bool_(True)}
    assert build(CheckResult("c", "passed", "", 0.1, metrics=values)).checks[0].metrics == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": True,
    }


def test_two_checks_that_disagree_on_a_metric_are_told() -> None:
    checks = [CheckResult(n, "passed", "", 0.1, metrics={"m": v}) for n, v in (("a", 1), ("b", 2))]
    report = build(*checks)
    assert report.metrics == {"m": 1}
    assert any("b measured m again" in notice for notice in report.notices)


@given(st.recursive(st.none() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=10))
def test_cleaned_values_always_encode(value: Any) -> None:
    cleaned = clean_json({"v": value})
    if isinstance(cleaned, dict):
        json.dumps(cleaned, allow_nan=False).encode()


def test_lone_surrogates_from_a_model_do_not_stop_the_report() -> None:
    report = build(CheckResult("c\ud800", "passed", "\udfff", 0.1))
    render(report, "json").encode()


def test_facts_from_the_model_s_process_cannot_spoil_the_report(tmp_path: Path) -> None:
    facts = {"a\ud800": [math.nan, "\udfff", {"b": -math.inf}], "c": (1, 2)}
    samples = SamplesRecord(source="s", count=1, preprocessing=facts)
    path = tmp_path / "r.json"
    path.write_text(render(build(samples=samples), "json"))
    read = load_report(path).samples
    assert read is not None
    assert read.preprocessing == {"a?": ["nan", "?", {"b": "-inf"}], "c": [1, 2]}


def test_no_images_leaves_the_samples_out_and_keeps_the_trigger() -> None:
    names = [f.name for f in backdoored_report(images=False).figures]
    assert names == ["trigger"]
    assert len(backdoored_report().figures) == 7


def test_figures_are_bounded_in_bytes() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (700, 700), np.uint8)
    figures = tuple(Figure(f"f{i}", "noise", noise) for i in range(6))
    report = build(CheckResult("c", "passed", "", 0.1, figures=figures))
    assert 0 < len(report.figures) < 6
    assert any("figures left out" in notice for notice in report.notices)
    assert len(render(report, "html").encode()) < 3_000_000


def test_a_thousand_classes_stay_under_three_megabytes() -> None:
    table = [{"class": i, "n": 50, "accuracy": 0.7, "low": 0.6, "high": 0.8} for i in range(1000)]
    points = [[0.123 * i, 0.321 * i, i % 1000] for i in range(5000)]
    metrics = {
        "a.per_class": table,
        "b.per_class": [{"epsilon": e, "classes": table} for e in (0.01, 0.03, 0.1, 0.3)],
        "c.scatter": {"points": points, "classes": []},
        "d.table": table,
        "e.confusion": [[1] * 40] * 40,
    } | {f"robustness.x@{i}": 0.5 for i in range(500)}
    checks = [CheckResult(f"c{i}", "passed", "", 0.1, metrics=metrics) for i in range(4)]
    page = render(build(*checks), "html")
    assert "750 more rows in the JSON report" in page
    assert len(page.encode()) < 3_000_000


@pytest.mark.parametrize("shape", [(2, 2, 4), (0, 3), (3,)])
def test_a_figure_of_a_wrong_shape_is_left_out_and_said(shape: tuple[int, ...]) -> None:
    figure = Figure("f", "odd", np.zeros(shape, np.uint8))
    report = build(CheckResult("c", "passed", "", 0.1, figures=(figure,)))
    assert report.figures == ()
    assert "figure f left out" in report.notices[0]


def test_paths_are_never_absolute(tmp_path: Path) -> None:
    inside, outside = tmp_path / "a" / "m.onnx", Path("/elsewhere/m.onnx")
    assert display_path(inside, tmp_path) == "a/m.onnx"
    assert display_path(outside, tmp_path) == "m.onnx"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"verdict": "maybe"}', "\xff", '{"schema_version": 3}']
)
def test_what_is_no_report_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, "latin-1")
    with pytest.raises(UsageError, match=r"r\.json is not an audit report"):
        load_report(path)


def test_a_missing_report_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the report"):
        load_report(tmp_path / "none.json")


def test_notebooks_get_a_sandboxed_frame() -> None:
    shown = clean_report()._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert 'sandbox="allow-scripts"' in shown
