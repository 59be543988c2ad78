"""The bench in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from auditor.report.text import visible

if TYPE_CHECKING:
    from auditor.bench.run import Progress
    from auditor.bench.tables import Results


def show(found: Results, console: Console) -> None:
    """All tables with their notes."""
    for table in found.tables:
        grid = Grid(
            title=table.title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
        )
        for column in table.columns:
            grid.add_column(column, overflow="fold")
        for row in table.rows:
            grid.add_row(*(Text(visible(cell)) for cell in row))
        console.print(grid)
        for note in table.notes:
            console.print(Text(visible(note), style="dim"))
        console.print()
    for notice in found.notices:
        console.print(Text(f"note: {visible(notice)}", style="dim"))


def line(state: Progress) -> str:
    """One model as it comes: truth beside answer."""
    head = f"{state.done}/{state.total}"
    if state.failed:
        return f"{head} {visible(state.failed)}"
    row = state.row
    if row is None:
        return f"{head} models are there already" if state.done else f"{state.total} models"
    t = row.truth
    truth = t.kind if not t.backdoored else f"{t.rule} {t.family} to {_classes(t.targets)}"
    said = f"{row.severity or 'nothing'}, class {row.named}" if row.named is not None else "nothing"
    return f"{head} {visible(row.model)}: {truth}; {row.error or said}; {row.seconds:.1f} s"


def _classes(targets: tuple[int, ...]) -> str:
    return ",".join(map(str, targets)) or "every class"
