"""``audit diff BEFORE AFTER``: what changed between two model files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditor.commands import parameters as p
from auditor.commands.options import scan_options

if TYPE_CHECKING:
    from rich.console import Console

    from auditor.diffing import Difference

INCOMPLETE = 3
_SHOWN = 12


def diff(
    before: Annotated[Path, typer.Argument(help="The model file to compare with.")],
    after: Annotated[Path, typer.Argument(help="The changed model file.")],
    data: p.OptionalData = None,
    data_root: p.DataRoot = None,
    split: p.Split = "test",
    max_samples: p.MaxSamples = 500,
    class_names: p.ClassNames = None,
    download: p.Download = False,
    layout: p.Layout = None,
    size: p.Size = None,
    scale: p.Scale = None,
    mean: p.Mean = None,
    std: p.Std = None,
    seed: p.Seed = 0,
    json_only: p.JsonOnly = False,
    no_color: p.NoColor = False,
    memory_limit: p.Memory = "6GiB",
    timeout: p.Timeout = 600.0,
    jobs: p.Jobs = 0,
) -> None:
    """Compare two model files: parameters, graph, metadata, and answers on samples or noise.

    Exit code 0 compared (whatever was found), 3 something could not be compared, 2 unreadable.
    """
    options = scan_options(locals(), device="cpu")
    from auditor.diffing import diff as compare

    result = compare(before, after, options)
    if json_only:
        typer.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        from auditor.commands.running import console_for

        print_difference(result, console_for(no_color))
    raise typer.Exit(INCOMPLETE if result.incomplete else 0)


def print_difference(result: Difference, console: Console) -> None:
    """For people: one block a kind of change; names are escaped like everything from a file."""
    from rich.text import Text

    def say(line: str, style: str = "") -> None:
        console.print(Text(line, style=style))

    from auditor.report.text import visible

    same = " (the same file)" if result.identical else ""
    say(f"{visible(result.before)} -> {visible(result.after)}{same}", "bold")
    for name, pair in result.file.items():
        say(f"  {name}: {visible(str(pair[0]))} -> {visible(str(pair[1]))}")
    _print_parameters(result.parameters, say, visible)
    _print_nodes(result.nodes, say, visible)
    for word, entries in result.metadata.items():
        for key, value in entries.items():
            say(f"  metadata {word}: {visible(key)} = {visible(str(value), 200)}")
    _print_behaviour(result.behaviour, say)
    for sentence in result.incomplete:
        say(f"not compared: {visible(sentence, 300)}", "yellow")


def _print_parameters(found: dict[str, Any], say: Any, visible: Any) -> None:
    if not found:
        return
    say(
        f"Parameters: {found['changed']:,} of {found['of']:,} changed, "
        f"L2 norm of the change {found['norm']:.4g}"
    )
    for row in found["tensors"][:_SHOWN]:
        if "shapes" in row:
            say(f"  {visible(row['name'])}: shape {row['shapes'][0]} -> {row['shapes'][1]}")
        else:
            say(
                f"  {visible(row['name'])}: {row['changed']:,} of {row['of']:,}, norm "
                f"{row['norm']:.4g} ({row['relative']:.1%} of what it was)"
            )
    for word in ("added", "removed"):
        for name in found[word][:_SHOWN]:
            say(f"  {word}: {visible(name)}")


def _print_nodes(found: dict[str, Any], say: Any, visible: Any) -> None:
    say(
        f"Graph: {found['before']} -> {found['after']} nodes, lines or files, "
        f"{found['added_count']} added, {found['removed_count']} removed"
    )
    for sign, word in (("+", "added"), ("-", "removed")):
        for name in found[word][:_SHOWN]:
            say(f"  {sign} {visible(name, 120)}")
        if found[f"{word}_count"] > _SHOWN:
            say(f"  {sign} ... {found[f'{word}_count'] - _SHOWN} more (--json lists them)")


def _print_behaviour(found: dict[str, Any], say: Any) -> None:
    if not found:
        return
    exact = ", bit for bit the same" if found["identical"] else ""
    say(
        f"Answers on {found['on']}: {found['agreement']:.2%} the same class, largest score "
        f"difference {found['max_difference']:.4g}{exact}"
    )
    if "accuracy" in found:
        low, high = found["accuracy_drop_interval"]
        one, two = found["accuracy"]
        say(
            f"  accuracy {one:.2%} -> {two:.2%}, drop {found['accuracy_drop']:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%})"
        )


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("diff")(diff)
