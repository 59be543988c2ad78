"""``audit rules`` and ``audit explain RULE``: the static rules, their reasons and remedies."""

from __future__ import annotations

import typer

from auditor.errors import UsageError


def rules() -> None:
    """List the rules findings can name: static ones first, then those of running the model."""
    from rich.console import Console
    from rich.table import Table

    from auditor.checks.dynamic_rules import DYNAMIC_RULES
    from auditor.checks.file.rules import all_rules

    table = Table("rule", "severity", "formats", "what", box=None, header_style="bold")
    for rule in (*all_rules(), *DYNAMIC_RULES):
        table.add_row(rule.id, rule.severity.word, ", ".join(rule.formats), rule.title)
    Console().print(table)


def explain(rule: str = typer.Argument(help="A rule id, see `audit rules`.")) -> None:
    """Explain one rule: why it matters, what to do, an example."""
    from rich.console import Console

    from auditor.checks.dynamic_rules import DYNAMIC_RULES
    from auditor.checks.file.rules import all_rules

    known = {r.id: r for r in (*DYNAMIC_RULES, *all_rules())}
    if rule not in known:
        raise UsageError(f"there is no rule {rule!r}; `audit rules` lists them")
    found = known[rule]
    console = Console()
    console.print(f"[bold]{found.id}[/bold] ({found.severity.word}): {found.title}")
    for word, text in (
        ("Formats", ", ".join(found.formats)),
        ("CWE", found.cwe or ""),
        ("Why", found.why),
        ("What to do", found.remedy),
        ("Example", found.example),
    ):
        if text:
            console.print(f"\n[bold]{word}[/bold]")
            console.print(text, markup=False)
    if found.blocks_run:
        console.print("\nA model with this finding is not loaded unless --run-anyway is given.")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.command("rules")(rules)
    app.command("explain")(explain)
