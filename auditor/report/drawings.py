"""What the HTML page shows of a chart: the picture, its legend, and its numbers as a table."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from auditor.report.model import CheckRecord, Report
from auditor.report.series import Chart, Confusion, Curve, GraphPath, PerClass, Scatter, Table
from auditor.report.svg import draw

MAX_ROWS = 250
"""Rows of one table: a thousand classes in several tables must stay under 3 MB."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart with its numbers: `columns` and `rows` of a sortable table."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    left_out: int
    """Rows that only the JSON has."""

    @property
    def numeric(self) -> frozenset[str]:
        """The columns to align right."""
        first = zip(self.columns, self.rows[0], strict=True) if self.rows else ()
        return frozenset(name for name, value in first if isinstance(value, int | float))


_TITLES = {
    Curve: "Accuracy under attack",
    Confusion: "Confusion matrix",
    PerClass: "By class",
    Scatter: "Activations in two dimensions",
    GraphPath: "Path through the graph",
    Table: "In numbers",
}


def drawing(chart: Chart, check: CheckRecord, report: Report) -> Drawing:
    """`chart` of `check` drawn, with suspected target classes marked."""
    hot = frozenset(report.backdoor.target_classes)
    title = f"{_TITLES[type(chart)]}: {check.title or check.name}"
    legend: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    if isinstance(chart, Curve):
        if len(chart.series) > 1:
            legend = tuple((f"c{i % 10}", s.name) for i, s in enumerate(chart.series))
        columns = ("attack", "strength", "accuracy", "low", "high")
        rows = tuple((s.name, *point) for s in chart.series for point in s.points)
    elif isinstance(chart, PerClass | Table):
        columns, rows = chart.columns, chart.rows
    elif isinstance(chart, Confusion):
        columns = ("true class", *map(str, range(len(chart.rows))))
        rows = tuple((i, *map(int, row)) for i, row in enumerate(chart.rows))
    elif isinstance(chart, Scatter):
        legend = _scatter_legend(chart)
        hot = hot if _labels_are_classes(chart, report) else frozenset()
    else:
        columns, rows = ("operator", "node"), chart.nodes
    left_out = max(0, len(rows) - MAX_ROWS)
    return Drawing(title, draw(chart, title, hot), legend, columns, rows[:MAX_ROWS], left_out)


def _labels_are_classes(chart: Scatter, report: Report) -> bool:
    """Whether the labels of the points are the model's classes (and not "clean", "triggered")."""
    names = report.samples.classes if report.samples else ()
    plain = tuple(map(str, range(len(chart.classes))))
    return chart.classes in ((), names, plain)


def png_width(image: str) -> int:
    """CSS pixels to show a PNG data URI at: small pictures enlarged by a whole factor.

    A single sample is at most 132 wide, a sheet of them 640 wide and 300 high.
    """
    head = base64.b64decode(image.partition(",")[2][:44])
    width, height = (int.from_bytes(head[at : at + 4]) for at in (16, 20))
    most_wide, most_high = (132, 132) if width < 1.5 * height else (640, 300)
    factor = min(most_wide // max(width, 1), most_high // max(height, 1))
    return min(max(width, 1) * max(factor, 1), 1_000)


def _scatter_legend(chart: Scatter) -> tuple[tuple[str, str], ...]:
    labels = sorted({label for _, _, label in chart.points})[:20]
    names = chart.classes
    return tuple(
        (f"c{label % 10}", names[label] if 0 <= label < len(names) else str(label))
        for label in labels
    )
