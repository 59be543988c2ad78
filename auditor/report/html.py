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

from auditor.report.drawings import Drawing, drawing, png_width
from auditor.report.interface import Format
from auditor.report.model import CheckRecord, FigureRecord, Report
from auditor.report.series import charts
from auditor.report.summary import (
    LIMITS,
    backdoor_sentence,
    class_label,
    counts_sentence,
    coverage_sentence,
    finding_place,
    headline,
    probability_sentence,
    result_line,
    severity_counts,
    was_run,
)
from auditor.report.text import number, percent, plural, shape, size, visible

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
        "probability": probability_sentence(report),
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
        low, high = found.interval or (0.0, 1.0)
        note = f"{low:.2f} to {high:.2f}, " + (
            "outside calibration" if found.outside_calibration else "at even odds"
        )
        tiles.append(("Backdoor probability", f"{found.probability:.2f}", note))
    tiles.append(("Findings", str(len(report.findings)), counts_sentence(report)))
    done = sum(check.status in ("passed", "flagged") for check in report.checks)
    tiles.append(("Checks run", f"{done} of {len(report.checks)}", f"{report.seconds:.1f} s"))
    return tiles


def _check(report: Report, check: CheckRecord) -> CheckView:
    scalars = [(n, v) for n, v in check.metrics.items() if isinstance(v, bool | int | float | str)]
    figures = tuple(f for f in report.figures if f.check == check.name and _PNG.fullmatch(f.image))
    return CheckView(
        record=check,
        drawings=tuple(drawing(chart, check, report) for chart in charts(check)),
        figures=figures,
        scalars=tuple(scalars),
        result=result_line(check),
        shown_above=bool(report.backdoor.trigger and figures and check.status == "flagged"),
    )


def _trigger_image(report: Report) -> str:
    trigger = report.backdoor.trigger
    image = trigger.image if trigger and trigger.image else ""
    return image if _PNG.fullmatch(image) else ""


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
        ("Parameters", f"{a.parameters:,}" if a.sha256 else ""),  # a training set has none
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
