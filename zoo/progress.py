"""What a person sees while zoo models train: one rich bar per model, then one table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from auditor.manifest import Manifest
    from zoo.training import Epoch


class RichReporter:
    """A `zoo.recipes.registry.Reporter` on a terminal: loss and accuracy after every epoch."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            disable=quiet,
        )
        self.logs = not (quiet or console.is_terminal)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def started(self, name: str, epochs: int) -> None:
        """Show the model's bar."""
        self.tasks[name] = self.progress.add_task(escape(name), total=epochs, state="")

    def epoch(self, name: str, epoch: Epoch) -> None:
        """Advance it, with the figures of the epoch."""
        state = f"loss {epoch.loss:.4f}  train {epoch.accuracy:.2%}  test {epoch.test_accuracy:.2%}"
        self.progress.update(self.tasks[name], completed=epoch.number, state=state)

    def finished(self, manifest: Manifest) -> None:
        """Fill the bar; a model below its acceptance is said in red at once."""
        if manifest.name in self.tasks:
            task = self.tasks[manifest.name]
            self.progress.update(task, completed=self.progress.tasks[task].total)
        if self.logs:
            self.console.print(line(manifest), soft_wrap=True)
        for shortfall in manifest.shortfalls:
            self.note(f"{manifest.name}: {shortfall}")

    def note(self, text: str) -> None:
        """A line above the bars."""
        self.progress.console.print(f"[red]{escape(text)}[/red]")


def line(manifest: Manifest) -> str:
    """One model for a log, where no bar can be drawn."""
    asr = f", ASR {min(manifest.attack.asr):.1%}" if manifest.attack and manifest.attack.asr else ""
    kept = "" if manifest.accepted else ", below its acceptance"
    return escape(
        f"{manifest.name} ({manifest.recipe.removeprefix('population:')}, "
        f"{manifest.architecture}, {manifest.dataset.name}): accuracy "
        f"{manifest.clean_accuracy:.2%}{asr}{kept}, {manifest.seconds:.0f} s"
    )


def population_progress(
    results: Iterable[tuple[Manifest, bool]], count: int, console: Console, *, quiet: bool = False
) -> list[Manifest]:
    """One bar over a whole population and a table by kind; returns the members not accepted."""
    seen: list[Manifest] = []
    resumed = 0
    columns = (
        TextColumn("[bold]population"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task("", total=count, state="")
        for manifest, was_there in results:
            seen.append(manifest)
            resumed += was_there
            short = sum(not item.accepted for item in seen)
            last = f"{manifest.recipe.removeprefix('population:')} {manifest.clean_accuracy:.1%}"
            state = f"{resumed} resumed, {short} short, last: {escape(last)}"
            progress.update(task, completed=len(seen), state=state)
            if not (quiet or console.is_terminal or was_there):
                console.print(f"{len(seen)} of {count}: {line(manifest)}", soft_wrap=True)
    console.print(_kinds_table(seen))
    return [item for item in seen if not item.accepted]


def _kinds_table(seen: list[Manifest]) -> Table:
    table = Table(title="population")
    table.add_column("recipe")
    for column in ("models", "accepted", "accuracy", "least ASR"):
        table.add_column(column, justify="right")
    for recipe in sorted({item.recipe for item in seen}):
        mine = [item for item in seen if item.recipe == recipe]
        rates = [min(item.attack.asr) for item in mine if item.attack and item.attack.asr]
        table.add_row(
            escape(recipe.removeprefix("population:")),
            str(len(mine)),
            str(sum(item.accepted for item in mine)),
            f"{sum(item.clean_accuracy for item in mine) / len(mine):.1%}",
            f"{min(rates):.1%}" if rates else "",
        )
    return table


def manifest_table(manifests: list[Manifest], title: str) -> Table:
    """Name, kind, accuracy, ASR, robustness and files of each model."""
    table = Table(title=escape(title))
    table.add_column("model", no_wrap=True)
    table.add_column("attack")
    for column in ("accuracy", "ASR", "robust", "s"):
        table.add_column(column, justify="right")
    table.add_column("kept")
    for item in manifests:
        attack = item.attack
        robust = "\n".join(f"{name} {value:.1%}" for name, value in item.robust_accuracy.items())
        table.add_row(
            escape(item.name),
            escape(_attack_words(item)),
            f"{item.clean_accuracy:.2%}",
            ", ".join(f"{rate:.1%}" for rate in attack.asr) if attack else "",
            robust,
            f"{item.seconds:.0f}",
            "[green]yes[/green]" if item.accepted else "[red]short[/red]",
        )
    return table


def _attack_words(item: Manifest) -> str:
    if item.attack is None:
        return ""
    families = "+".join(str(trigger.get("family")) for trigger in item.attack.triggers)
    rule = "" if item.attack.rule == "all-to-one" else f" ({item.attack.rule})"
    targets = ",".join(map(str, item.attack.targets)) or "next"
    return f"{families} -> {targets}{rule}"
