"""Progress of a fleet on standard error: a bar with rate and time left, or a line now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from auditor.fleet.driver import Progress as State
    from auditor.fleet.totals import Totals

_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


class FleetView:
    """A context manager; `tell` is called after every model."""

    def __init__(self, *, quiet: bool, no_color: bool) -> None:
        self._console = Console(stderr=True, no_color=no_color or None)
        self._quiet = quiet
        self._last = time.monotonic()
        self._bar: Progress | None = None
        if not quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("looking for models", total=None, rate="")

    def tell(self, state: State) -> None:
        """Show `state`."""
        if self._bar is not None:
            total = state.models if state.doing != "planning" else None
            done = state.settled if state.doing != "planning" else state.models
            words = {"planning": "looking for models", "writing": "writing the index"}
            doing = words.get(state.doing, f"auditing on {state.workers}")
            self._bar.update(
                self._task, description=doing, total=total, completed=done, rate=pace(state)
            )
        elif not self._quiet and time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            count = f"{state.settled}/{state.models}" if state.settled else f"{state.models}"
            self._console.print(f"{state.doing}: {count} models {pace(state)}".rstrip())

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def pace(state: State) -> str:
    """``3.1/s, 4 min left``, over this run's own work."""
    done = state.settled - state.known
    if state.doing != "auditing" or done <= 0:
        return ""
    rate = done / max(1e-9, time.monotonic() - state.started)
    left = (state.models - state.settled) / rate
    unit = (
        f"{left:.0f} s"
        if left < 90
        else f"{left / 60:.0f} min"
        if left < 5400
        else (f"{left / 3600:.1f} h")
    )
    shown = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
    return f"{shown}, {unit} left"


def print_totals(totals: Totals, console: Console) -> None:
    """The totals as a small table on standard output."""
    table = Table(title=f"{totals.models} models in {totals.seconds:.1f} s", title_justify="left")
    for name in ("verdict", "models"):
        table.add_column(name, justify="right" if name == "models" else "left")
    for word, count in totals.to_json()["verdicts"].items():
        if count:
            table.add_row(word, str(count))
    console.print(table)
    audited = totals.models - totals.known - totals.pending
    notes = [f"{audited} audited now, {totals.known} from earlier runs"]
    notes += [
        f"{count} {word}"
        for count, word in (
            (totals.lost, "lost their process twice"),
            (totals.failed, "could not be had"),
            (totals.pending, "not reached before --budget"),
            (totals.unsupported, "in formats that cannot be audited"),
            (totals.passed, "other files passed over"),
        )
        if count
    ]
    console.print("; ".join(notes) + f". Exit code {totals.exit_code}.", highlight=False)
