"""Report formats by name: ours, and anybody's under the entry point group ``audit.formats``.

All are entry points, ours too; each is imported when asked for, so that listing names stays fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from auditor.errors import UsageError
from auditor.report.interface import Format

if TYPE_CHECKING:
    from auditor.report.model import Report

GROUP = "audit.formats"

BUILT_IN: Mapping[str, str] = {
    "table": "auditor.report.table:TableFormat",
    "json": "auditor.report.json:JsonFormat",
    "html": "auditor.report.html:HtmlFormat",
    "markdown": "auditor.report.markdown:MarkdownFormat",
    "sarif": "auditor.report.sarif:SarifFormat",
    "cyclonedx": "auditor.report.cyclonedx:CycloneDxFormat",
    "junit": "auditor.report.junit:JunitFormat",
    "csv": "auditor.report.csv:CsvFormat",
}


@cache
def _points() -> tuple[Mapping[str, EntryPoint], tuple[str, ...]]:
    points = {name: EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()}
    problems: list[str] = []
    for point in entry_points(group=GROUP):
        if point.name not in points:
            points[point.name] = point
        elif points[point.name].value != point.value:
            problems.append(f"format plug-in {point.name} ({point.value}): the name is taken")
    return points, tuple(problems)


def problems() -> tuple[str, ...]:
    """A sentence for each plug-in left out because its name was taken."""
    return _points()[1]


def get_format(name: str) -> Format:
    """The format called `name`. Raises `UsageError` for an unknown or broken one."""
    points = _points()[0]
    if name not in points:
        raise UsageError(f"unknown format {name!r}; known: {', '.join(points)}")
    try:
        made = points[name].load()()
    except Exception as problem:
        raise UsageError(f"the format {name!r} could not be loaded: {problem}") from problem
    if not isinstance(made, Format):
        raise UsageError(f"the format {name!r} ({points[name].value}) is not a Format")
    return made


def render(report: Report, name: str) -> str:
    """`report` as text in the format called `name`. Raises `UsageError` for an unknown one."""
    return get_format(name).render(report)
