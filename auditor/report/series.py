"""Tables and charts hidden in check metrics, recognised by name and shape, for any check.

The last part of a metric's dotted name decides:

- ``curve``: a list of [epsilon, accuracy, low, high] or of maps with these keys, or a map of such
  lists by name;
- ``confusion``: a square list of lists of counts;
- ``per_class``: a list of flat maps, or of ``{"epsilon": e, "classes": [maps]}``;
- ``table``: a list of flat maps about anything;
- ``scatter``: ``{"points": [[x, y, label], ...], "classes": [names]}``;
- ``path``: a list of [operator, node name] in the order of the graph.

What does not have the shape is not drawn and still stands in the JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from auditor.report.model import CheckRecord

MAX_CLASSES = 60
"""Larger confusion matrices and bar charts are unreadable; the JSON has them."""

MAX_POINTS = 2_000
MAX_NODES = 40
MAX_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Series:
    """One line: (x, y, low, high) with ascending x."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy (0..1) against attack strength."""

    metric: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts: row = true class, column = predicted class."""

    metric: str
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class PerClass:
    """A table with one row a class; a missing cell is an empty string."""

    metric: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table about anything; nothing is drawn of it."""

    metric: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points in the plane with an integer label each."""

    metric: str
    points: tuple[tuple[float, float, int], ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphPath:
    """A way through the graph: (operator, node name) from the input side to the output side."""

    metric: str
    nodes: tuple[tuple[str, str], ...]


Chart: TypeAlias = Curve | Confusion | PerClass | Table | Scatter | GraphPath


def charts(check: CheckRecord) -> Iterator[Chart]:
    """Everything of `check` that can be drawn, in the order of its metrics."""
    for name, value in check.metrics.items():
        reader = _READERS.get(name.rpartition(".")[2])
        chart = reader(name, value) if reader else None
        if chart is not None:
            yield chart


def _number(value: Any) -> bool:
    """A number that can be drawn: the model's process may have sent anything."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _series(name: str, value: Any) -> Series | None:
    if not isinstance(value, list) or not value:
        return None
    points: list[tuple[float, float, float, float]] = []
    for row in value:
        if isinstance(row, dict):
            row = [row[k] for k in ("epsilon", "accuracy", "low", "high") if k in row]
        if not (isinstance(row, list) and len(row) in (2, 4) and all(map(_number, row))):
            return None
        x, y, *interval = (float(v) for v in row)
        low, high = interval or (y, y)
        points.append((x, y, low, high))
    return Series(name, tuple(sorted(points)))


def _curve(metric: str, value: Any) -> Curve | None:
    named = value if isinstance(value, dict) else {metric.rpartition(".")[0]: value}
    series = [_series(name, points) for name, points in named.items()]
    found = tuple(s for s in series if s is not None)
    return Curve(metric, found) if found and len(found) == len(series) else None


def _confusion(metric: str, value: Any) -> Confusion | None:
    if not isinstance(value, list) or not 1 < len(value) <= MAX_CLASSES:
        return None
    for row in value:
        if not (isinstance(row, list) and len(row) == len(value) and all(map(_number, row))):
            return None
    return Confusion(metric, tuple(tuple(float(v) for v in row) for row in value))


def _flat_table(value: Any) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]] | None:
    """Columns and rows of a list of flat maps, or None."""
    if not isinstance(value, list) or not value or not all(isinstance(r, dict) for r in value):
        return None
    columns = tuple(dict.fromkeys(key for row in value for key in row))
    rows = tuple(tuple(row.get(c, "") for c in columns) for row in value[:MAX_ROWS])
    if not columns or any(isinstance(cell, list | dict) for row in rows for cell in row):
        return None
    return columns, rows


def _per_class(metric: str, value: Any) -> PerClass | None:
    table = _flat_table(_pivot(value) or value)
    return PerClass(metric, *table) if table else None


def _pivot(value: Any) -> list[dict[str, Any]]:
    """One row a class with a column for each epsilon, from one list of rows for each epsilon."""
    if not isinstance(value, list):
        return []
    merged: dict[Any, dict[str, Any]] = {}
    for part in value:
        if not (isinstance(part, dict) and isinstance(part.get("classes"), list)):
            return []
        for row in part["classes"]:
            if not (isinstance(row, dict) and isinstance(row.get("class"), int | str)):
                return []
            mine = merged.setdefault(row["class"], {"class": row["class"]})
            mine[f"accuracy at {part.get('epsilon', '?')}"] = row.get("accuracy", "")
    return list(merged.values())


def _table(metric: str, value: Any) -> Table | None:
    table = _flat_table(value)
    return Table(metric, *table) if table else None


def _scatter(metric: str, value: Any) -> Scatter | None:
    if not isinstance(value, dict) or not isinstance(value.get("points"), list):
        return None
    points: list[tuple[float, float, int]] = []
    for row in value["points"][:MAX_POINTS]:
        if not (isinstance(row, list) and len(row) == 3 and all(map(_number, row))):
            return None
        points.append((float(row[0]), float(row[1]), int(row[2])))
    names = value.get("classes")
    classes = tuple(map(str, names)) if isinstance(names, list) else ()
    return Scatter(metric, tuple(points), classes) if points else None


def _path(metric: str, value: Any) -> GraphPath | None:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_NODES:
        return None
    for row in value:
        if not (isinstance(row, list) and len(row) == 2 and all(isinstance(v, str) for v in row)):
            return None
    return GraphPath(metric, tuple((op, name) for op, name in value))


_READERS = {
    "curve": _curve,
    "confusion": _confusion,
    "per_class": _per_class,
    "scatter": _scatter,
    "path": _path,
    "table": _table,
}
