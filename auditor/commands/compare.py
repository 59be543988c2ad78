"""``audit compare``: what got worse between two audited versions of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from auditor.report.compare import Comparison


def compare(
    before: Annotated[Path, typer.Argument(help="report.json of the accepted version.")],
    after: Annotated[Path, typer.Argument(help="report.json of the new version.")],
    tolerance: Annotated[
        float, typer.Option(help="How far a metric may move the wrong way.")
    ] = 0.01,
    fail_on: Annotated[
        str, typer.Option(help="New findings that count: critical, high, medium, low or never.")
    ] = "high",
    json_only: Annotated[bool, typer.Option("--json", help="JSON alone on stdout.")] = False,
) -> None:
    """Compare two reports. Exit code 1 when something got worse, 0 when not, 2 for no report."""
    from auditor.findings import Severity
    from auditor.report.compare import compare as compare_reports
    from auditor.report.model import load_report

    if fail_on not in ("critical", "high", "medium", "low", "never"):
        raise UsageError(f"--fail-on must be critical, high, medium, low or never, not {fail_on!r}")
    if not tolerance >= 0:
        raise UsageError(f"--tolerance must not be negative, and {tolerance} is")
    gate = None if fail_on == "never" else Severity.parse(fail_on)
    result = compare_reports(
        load_report(before), load_report(after), tolerance=tolerance, fail_on=gate
    )
    if json_only:
        typer.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        from rich.console import Console

        print_comparison(result, Console())
    raise typer.Exit(1 if result.regressions else 0)


def print_comparison(result: Comparison, console: Console) -> None:
    """The comparison for people: regressions first, then findings and metrics."""
    from rich.table import Table
    from rich.text import Text

    from auditor.report.table import VERDICT_STYLE
    from auditor.report.text import number, visible

    head = Text()
    for index, report in enumerate((result.before, result.after)):
        head.append(" → " if index else "")
        head.append(f"{visible(report.artifact.path)} ")
        head.append(report.verdict, style=VERDICT_STYLE[report.verdict])
    console.print(head)
    if result.regressions:
        console.print(Text("\nWorse", style="bold red"))
    else:
        console.print(Text("\nNothing got worse.", style="bold green"))
    for line in result.regressions:
        console.print(Text(f" • {visible(line)}"))
    for title, findings in (("New findings", result.new), ("Gone findings", result.fixed)):
        if findings:
            console.print(Text(f"\n{title}", style="bold"))
        for f in findings:
            console.print(Text(f" • {f.severity} {visible(f.rule)}: {visible(f.title)}"))
    if result.changes:
        table = Table("metric", "before", "after", box=None, header_style="bold", pad_edge=False)
        for change in result.changes:
            style = {True: "red", False: "green", None: ""}[change.worse]
            name = Text(visible(change.metric), style=style)
            table.add_row(name, number(change.before), number(change.after))
        console.print()
        console.print(table)


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("compare")(compare)
