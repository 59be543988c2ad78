"""HTML: one self-contained page. Nothing is loaded, nothing inline runs but our own two blocks.

The content policy allows exactly the style and the script whose hashes it names, and images as
data URIs. Jinja escapes every value; before that, `finalize` makes invisible characters visible.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.report.interface import Format
from auditor.report.model import CheckRecord, FigureRecord, Report
from auditor.report.series import (
    Chart,
    Confusion,
    Curve,
    GraphPath,
    PerClass,
    Scatter,
    Table,
    charts,
)
from auditor.report.summary import (
    LIMITS,
    backdoor_sentence,
    class_label,
    counts_sentence,
    coverage_sentence,
    finding_place,
    headline,
    result_line,
    severity_counts,
    was_run,
)
from auditor.report.svg import draw
from auditor.report.text import number, percent, plural, shape, size, visible

MAX_ROWS = 250
"""Rows of one table: a thousand classes in several tables must stay under 3 MB."""

_PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


class HtmlFormat(Format):
    """A page for a browser: printable, light and dark, without network."""

    name = "html"
    title = "one self-contained web page"
    filename = "report.html"

    def render(self, report: Report) -> str:
        """The page of one model."""
        return self.render_many([report])

    def render_many(self, reports: Sequence[Report]) -> str:
        """One page; several models stand one after the other."""
        environment = _environment()
        style, script = (_asset(environment, name) for name in ("style.css", "script.js"))
        return environment.get_template("report.html.j2").render(
            pages=[page(report) for report in reports],
            style=Markup(style),
            script=Markup(script),
            policy=Markup(content_policy(style, script)),
            limits=LIMITS,
        )


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


@dataclass(frozen=True, slots=True)
class CheckView:
    """A check with what can be drawn of it."""

    record: CheckRecord
    drawings: tuple[Drawing, ...]
    figures: tuple[FigureRecord, ...]
    scalars: tuple[tuple[str, Any], ...]
    result: str
    shown_above: bool
    """Its pictures stand with the recovered trigger; each picture is in the page once."""


def content_policy(style: str, script: str) -> str:
    """The Content-Security-Policy: nothing but these two texts and data images."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def page(report: Report) -> Mapping[str, Any]:
    """Everything the template needs of one report, worked out here so that it only places."""
    return {
        "report": report,
        "head": headline(report),
        "tiles": _tiles(report),
        "counts": severity_counts(report),
        "places": [finding_place(report, f) for f in report.findings],
        "checks": [_check(report, check) for check in report.checks],
        "trigger_image": _trigger_image(report),
        "backdoor": backdoor_sentence(report),
        "coverage": coverage_sentence(report),
        "sanitized": _sanitized(report),
        "facts": _facts(report),
        "environment": _flat(report.environment, skip=("command",)),
        "command": str(report.environment.get("command", "")),
        "policy": _flat(report.policy),
        "preprocessing": _flat(report.samples.preprocessing if report.samples else {}),
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("auditor.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters.update(
        number=number, percent=percent, plural=plural, png_width=png_width, size=size, shape=shape
    )
    return environment


def _asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """(label, value, note) for the first screen."""
    found, samples = report.backdoor, report.samples
    tiles: list[tuple[str, str, str]] = []
    if samples and samples.clean_accuracy is not None:
        note = f"on {plural(samples.count, 'sample')}"
        tiles.append(("Clean accuracy", percent(samples.clean_accuracy), note))
    if found.target_classes or found.trigger:
        targets = ", ".join(class_label(report, t) for t in found.target_classes) or "unknown"
        tiles.append(("Backdoor target", targets, "class the trigger leads to"))
    else:
        tiles.append(("Backdoor", "none seen" if was_run(report) else "not examined", ""))
    if found.trigger:
        note = f"{found.trigger.family} trigger"
        tiles.append(("Attack success rate", percent(found.trigger.asr), note))
    if found.probability is not None:
        tiles.append(("Backdoor probability", f"{found.probability:.2f}", "calibrated"))
    tiles.append(("Findings", str(len(report.findings)), counts_sentence(report)))
    done = sum(check.status in ("passed", "flagged") for check in report.checks)
    tiles.append(("Checks run", f"{done} of {len(report.checks)}", f"{report.seconds:.1f} s"))
    return tiles


def _check(report: Report, check: CheckRecord) -> CheckView:
    scalars = [(n, v) for n, v in check.metrics.items() if isinstance(v, bool | int | float | str)]
    figures = tuple(f for f in report.figures if f.check == check.name and _PNG.fullmatch(f.image))
    return CheckView(
        record=check,
        drawings=tuple(_drawing(chart, check, report) for chart in charts(check)),
        figures=figures,
        scalars=tuple(scalars),
        result=result_line(check),
        shown_above=bool(report.backdoor.trigger and figures and check.status == "flagged"),
    )


def _trigger_image(report: Report) -> str:
    trigger = report.backdoor.trigger
    image = trigger.image if trigger and trigger.image else ""
    return image if _PNG.fullmatch(image) else ""


_TITLES = {
    Curve: "Accuracy under attack",
    Confusion: "Confusion matrix",
    PerClass: "By class",
    Scatter: "Activations in two dimensions",
    GraphPath: "Path through the graph",
    Table: "In numbers",
}


def _drawing(chart: Chart, check: CheckRecord, report: Report) -> Drawing:
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


def _sanitized(report: Report) -> list[tuple[str, Any, Any]]:
    if report.sanitized is None:
        return []
    before, after = report.sanitized.before, report.sanitized.after
    keys = dict.fromkeys((*before, *after))
    return [
        (key, before.get(key, ""), after.get(key, ""))
        for key in keys
        if not isinstance(before.get(key, after.get(key)), list | dict)
    ]


def _facts(report: Report) -> list[tuple[str, str]]:
    a = report.artifact
    facts = [
        ("Path", a.path),
        ("Format", f"{a.format} {a.opset}".strip()),
        ("SHA-256", a.sha256),
        ("Size", size(a.bytes)),
        ("Producer", a.producer),
        ("Parameters", f"{a.parameters:,}"),
    ]
    for word, tensors in (("Input", a.inputs), ("Output", a.outputs)):
        facts += [(word, f"{t.name}: {t.dtype} {shape(t.shape)}") for t in tensors]
    facts += [("External data", f"{f.name} {size(f.bytes)} {f.sha256}") for f in a.files[1:]]
    facts += [(key, value) for key, value in a.extra.items()]
    return [(name, value) for name, value in facts if value]


def _flat(values: Mapping[str, Any], skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    """A nested map as (dotted name, text) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if key in skip:
            continue
        if isinstance(value, dict) and value.keys() == {"status", "detail"}:
            pairs.append((key, f"{value['status']}: {value['detail']}"))
        elif isinstance(value, dict):
            pairs += [(f"{key}.{inner}", text) for inner, text in _flat(value)]
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            pairs += _flat({f"{key}.{i}": item for i, item in enumerate(value)})
        elif isinstance(value, list):
            pairs.append((key, ", ".join(str(item) for item in value) or "none"))
        else:
            pairs.append((key, number(value) if isinstance(value, bool | float) else str(value)))
    return pairs
