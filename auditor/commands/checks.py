"""``audit checks``: every check, what it needs, and where it came from."""

from __future__ import annotations

import typer


def checks(
    docs: bool = typer.Option(False, "--docs", help="Also say what each looks at and misses."),
) -> None:
    """List the checks a scan can run, ours and those of installed plug-ins."""
    from rich.console import Console
    from rich.table import Table

    from auditor.checks.registry import all_checks

    registered, notices = all_checks()
    console = Console()
    table = Table("check", "title", "needs", "from", box=None, header_style="bold")
    for entry in registered:
        needs = ", ".join(sorted(entry.check.needs))
        table.add_row(entry.check.name, entry.check.title, needs, entry.origin)
    console.print(table)
    if docs:
        for entry in registered:
            console.print(f"\n[bold]{entry.check.name}[/bold]")
            console.print(" ".join(entry.check.doc.split()), markup=False)
    for notice in notices:
        typer.echo(f"audit: {notice}", err=True)


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("checks")(checks)
