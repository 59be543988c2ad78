"""``audit show``: any view of a finished report, again, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    report: Annotated[Path, typer.Argument(help="A report.json, of one or several models.")],
    view: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="table, json, html, markdown, sarif, cyclonedx, junit, csv, or a plug-in's.",
        ),
    ] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead of standard output.")
    ] = None,
) -> None:
    """Render a saved report.json in another format. Exit code 0, or 2 if it is no report."""
    from auditor.commands.writing import write_atomically
    from auditor.report.model import load_reports
    from auditor.report.registry import get_format

    chosen = get_format(view)
    reports = load_reports(report)
    if view == "table" and output is None:
        from rich.console import Console

        from auditor.report.table import print_report, print_summary

        console = Console()
        for one in reports:
            print_report(one, console)
        if len(reports) > 1:
            print_summary(reports, console)
        return
    text = chosen.render(reports[0]) if len(reports) == 1 else chosen.render_many(reports)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(output, text)


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("show")(show)
