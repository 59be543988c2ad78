"""Charts: recognised by name and shape, drawn as valid SVG, unshaken by what a child may send."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.findings import CheckResult
from auditor.report.build import Parts, build_report
from auditor.report.model import CheckRecord
from auditor.report.registry import render
from auditor.report.series import Confusion, Curve, GraphPath, PerClass, Scatter, Table, charts
from auditor.report.svg import draw
from auditor.verdict import decide


def read(name: str, value: Any) -> list[Any]:
    return list(charts(CheckRecord(name="c", status="passed", metrics={name: value})))


GOOD = {
    "a.curve": [[0.1, 0.9, 0.8, 1.0], [0.0, 1.0, 0.9, 1.0]],
    "curve": {"fgsm": [[0, 1]], "pgd": [[0, 1], [1, 0]]},
    "b.curve": [{"epsilon": 0.1, "n": 5, "accuracy": 0.9, "low": 0.8, "high": 1.0}],
    "confusion": [[3, 1], [0, 4]],
    "per_class": [{"class": 0, "recall": 0.5}, {"class": 1, "recall": 1.0, "n": 3}],
    "p.per_class": [{"epsilon": 0.1, "classes": [{"class": 0, "accuracy": 0.4}]}],
    "scatter": {"points": [[1, 2, 0], [3.5, 4, 1]], "classes": ["a", "b"]},
    "s.scatter": {"points": [[1, 2, 0]]},
    "path": [["Conv", "first"], ["Relu", "<second>"]],
    "table": [{"a": "x", "b": 1}],
}
KINDS = {
    "curve": Curve,
    "confusion": Confusion,
    "per_class": PerClass,
    "scatter": Scatter,
    "path": GraphPath,
    "table": Table,
}


@pytest.mark.parametrize("name", GOOD)
def test_the_documented_shapes_are_recognised_and_drawn(name: str) -> None:
    [chart] = read(name, GOOD[name])
    assert isinstance(chart, KINDS[name.rpartition(".")[2]])
    picture = draw(chart, "A & B <title>", frozenset({1}))
    if not isinstance(chart, Table):
        root = ElementTree.fromstring(picture)
        assert root.get("role") == "img"
        assert (root.get("aria-label") or "").startswith("A & B <title>. ")
        assert "nan" not in picture.lower()


def test_curves_are_sorted_by_strength() -> None:
    [chart] = read("a.curve", GOOD["a.curve"])
    assert [point[0] for point in chart.series[0].points] == [0.0, 0.1]


def test_classes_by_epsilon_become_one_table() -> None:
    parts = [
        {"epsilon": e, "classes": [{"class": c, "accuracy": 1 - e} for c in (0, 1)]}
        for e in (0.1, 0.3)
    ]
    [chart] = read("per_class", parts)
    assert chart.columns == ("class", "accuracy at 0.1", "accuracy at 0.3")
    assert chart.rows == ((0, 0.9, 0.7), (1, 0.9, 0.7))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("curve", []),
        ("curve", [[0, "x"]]),
        ("curve", [[0, 1, 2]]),
        ("curve", [[0, 1e300]]),
        ("curve", 3),
        ("confusion", [[1, 2], [3]]),
        ("confusion", [[1]]),
        ("confusion", [[0] * 100] * 100),
        ("per_class", [1]),
        ("per_class", [{}]),
        ("per_class", [{"a": [1]}]),
        ("scatter", {"points": []}),
        ("scatter", {"points": [[1, 2]]}),
        ("scatter", [[1, 2, 3]]),
        ("path", [["Conv"]]),
        ("path", [["Conv", "n"]] * 1000),
        ("table", "x"),
        ("other", [[0, 1]]),
    ],
)
def test_other_shapes_are_not_drawn(name: str, value: Any) -> None:
    assert read(name, value) == []


NUMBERS = st.integers() | st.floats(allow_nan=True) | st.booleans()
VALUES = st.recursive(
    NUMBERS | st.none() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["points", "classes", "class", "epsilon", "accuracy", "x"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(list(KINDS)), VALUES, min_size=1))
def test_no_metric_breaks_a_page(metrics: dict[str, Any]) -> None:
    check = CheckResult("c", "passed", "", 0.1, metrics=metrics)
    report = build_report(Parts("m.onnx", checks=[check]), decide([], [], samples_given=True))
    for name in ("html", "markdown", "table", "sarif"):
        assert render(report, name)
