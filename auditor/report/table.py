"""The terminal view: first the verdict, why and what to do; then compact tables.

Strings from the model go through `visible` and `rich.text.Text`, so neither terminal escapes nor
rich markup in them act.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from auditor.report.interface import Format
from auditor.report.model import Report
from auditor.report.series import Curve, charts
from auditor.report.summary import (
    backdoor_sentence,
    counts_sentence,
    coverage_sentence,
    finding_place,
    headline,
    probability_sentence,
    result_line,
)
from auditor.report.text import number, percent, shape, size, visible

VERDICT_STYLE = {
    "pass": "bold green",
    "review": "bold yellow",
    "fail": "bold red",
    "incomplete": "bold magenta",
}
SEVERITY_STYLE = {
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "info": "dim",
}
STATUS_STYLE = {"passed": "green", "flagged": "red", "skipped": "dim", "incomplete": "magenta"}


class TableFormat(Format):
    """Plain text 80 columns wide; on a terminal use `print_report` for colour and full width."""

    name = "table"
    title = "tables for the terminal"
    filename = "report.txt"

    def render(self, report: Report) -> str:
        """The tables without colour."""
        return self.render_many([report])

    def render_many(self, reports: Sequence[Report]) -> str:
        """One after the other, then the summary when there are several."""
        stream = io.StringIO()
        console = Console(file=stream, width=80, color_system=None, legacy_windows=False)
        for report in reports:
            print_report(report, console)
        if len(reports) > 1:
            print_summary(reports, console)
        return stream.getvalue()


def print_report(report: Report, console: Console) -> None:
    """Print one report to `console` in its own colours and width."""
    console.print(_verdict(report))
    if report.error is not None:
        return
    console.print(_identity(report))
    for part in (_findings(report), _checks(report), _robustness(report), _sanitized(report)):
        if part is not None:
            console.print(part)
            console.print()
    for notice in report.notices:
        console.print(Text(f"note: {visible(notice)}", style="dim"))


def print_sanitized(report: Report, console: Console) -> None:
    """Only the measures before and after sanitizing, and the report's notices."""
    table = _sanitized(report)
    if table is not None:
        console.print(table)
    for notice in report.notices:
        console.print(Text(f"note: {visible(notice)}", style="dim"))


def print_summary(reports: Sequence[Report], console: Console) -> None:
    """One line a model: for several models, a fleet, or the demo."""
    table = _table("Models", "model", "verdict", "backdoor", "accuracy", "findings")
    for report in reports:
        clean = report.samples.clean_accuracy if report.samples else None
        error = report.error.message if report.error else None
        table.add_row(
            Text(visible(report.artifact.path)),
            Text(report.verdict, style=VERDICT_STYLE[report.verdict]),
            Text(visible(error or backdoor_sentence(report))),
            Text("" if clean is None else percent(clean)),
            Text(counts_sentence(report)),
        )
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        expand=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _bullets(lines: Iterable[str]) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for line in lines:
        grid.add_row(Text("•"), Text(visible(line), overflow="fold"))
    return Padding(grid, (0, 0, 0, 1))


def _verdict(report: Report) -> RenderableType:
    head = headline(report)
    style = VERDICT_STYLE[head.verdict]
    parts: list[RenderableType] = [Text(head.sentence, style="bold")]
    if head.reasons:
        parts += [Text("\nWhy", style="bold"), _bullets(head.reasons)]
    if head.actions:
        parts += [Text("\nWhat to do", style="bold"), _bullets(head.actions)]
    title = Text.assemble(
        (f" {head.verdict.upper()} ", f"{style} reverse"), f" {visible(report.artifact.path, 60)} "
    )
    return Panel(Group(*parts), title=title, title_align="left", border_style=style)


def _identity(report: Report) -> RenderableType:
    a = report.artifact
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    opset = f", version {visible(str(a.opset))}" if a.opset != "" else ""
    weights = f", {a.parameters:,} parameters" if a.sha256 else ""
    rows = [("file", f"{visible(a.format)}{opset}, {size(a.bytes)}{weights}")]
    if a.producer:
        rows.append(("producer", visible(a.producer)))
    if a.sha256:  # a training set has none, nor parameters
        rows.append(("sha256", visible(a.sha256)))
    for word, tensors in (("input", a.inputs), ("output", a.outputs)):
        rows += [
            (word, f"{visible(t.name, 40)} {visible(t.dtype)} {shape(t.shape)}")
            for t in tensors[:4]
        ]
    if report.samples:
        s = report.samples
        clean = "" if s.clean_accuracy is None else f", clean accuracy {percent(s.clean_accuracy)}"
        rows.append(("samples", f"{s.count:,} from {visible(s.source)}{clean}"))
    else:
        rows.append(("samples", "none given"))
    rows.append(("backdoor", visible(backdoor_sentence(report))))
    sentence = probability_sentence(report)
    if sentence:
        rows.append(("probability", visible(sentence)))
    rows.append(("coverage", f"{coverage_sentence(report)}; {report.seconds:.1f} s"))
    for word, value in rows:
        grid.add_row(word, Text(value))
    return Padding(grid, (1, 0, 1, 1))


def _findings(report: Report) -> RenderableType | None:
    if not report.findings and not report.suppressions:
        return None
    table = _table("Findings", "severity", "rule", "what was seen")
    table.columns[1].no_wrap = False
    for f in report.findings:
        place = finding_place(report, f)
        body = Text(visible(f.title), style="bold")
        body.append(f"\n{visible(f.evidence, 400)}", style="not bold")
        if place:
            body.append(f"\nat {visible(place, 120)}", style="dim not bold")
        table.add_row(
            Text(f.severity, style=SEVERITY_STYLE[f.severity]), Text(visible(f.rule)), body
        )
    for s in report.suppressions:
        until = f" until {visible(s.expires)}" if s.expires else ""
        table.add_row(
            Text("hushed", style="dim"),
            Text(visible(s.finding.rule), style="dim"),
            Text(f"{visible(s.finding.title)}: {visible(s.reason)}{until}", style="dim"),
        )
    return table


def _checks(report: Report) -> RenderableType | None:
    if not report.checks:
        return None
    table = _table("Checks", "check", "status", "seconds", "result")
    table.columns[2].justify = "right"
    for c in report.checks:
        table.add_row(
            Text(visible(c.name)),
            Text(c.status, style=STATUS_STYLE[c.status]),
            f"{c.seconds:.1f}",
            Text(result_line(c)),
        )
    return table


def _robustness(report: Report) -> RenderableType | None:
    curves = [c for check in report.checks for c in charts(check) if isinstance(c, Curve)]
    series = [s for curve in curves for s in curve.series]
    if not series:
        return None
    table = _table("Robustness", "attack", "strength", "accuracy", "95 % interval")
    for s in series:
        for x, y, low, high in s.points[:12]:
            interval = f"{percent(low)} to {percent(high)}" if low != high else ""
            table.add_row(Text(visible(s.name, 40)), number(x), percent(y), interval)
    return table


def _sanitized(report: Report) -> RenderableType | None:
    if report.sanitized is None:
        return None
    s = report.sanitized
    table = _table("Sanitized copy", "measure", "before", "after")
    for key in dict.fromkeys((*s.before, *s.after)):
        before, after = s.before.get(key, ""), s.after.get(key, "")
        if all(isinstance(v, bool | int | float | str) for v in (before, after)):
            table.add_row(Text(visible(key)), Text(number(before)), Text(number(after)))
    table.caption = Text(f"{visible(s.path)} (method: {visible(s.method)})")
    table.caption_justify = "left"
    return table
