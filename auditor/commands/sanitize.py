"""``audit sanitize MODEL``: write a repaired copy, and before and after side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditor.commands import parameters as p
from auditor.commands.common import BEHAVIOUR, commas
from auditor.commands.options import scan_options
from auditor.commands.running import audit_one, console_for
from auditor.errors import UsageError

if TYPE_CHECKING:
    from auditor.report.model import Report

CHECKS = ("file", "accuracy", "probe", "inversion", "robustness.fgsm")
"""What a repair needs to know, and the file checks that decide whether it may be loaded."""

NOT_WRITTEN = 3
Option = typer.Option


def sanitize(
    model: p.Model,
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
    method: Annotated[
        str | None,
        Option(
            help="One sanitizing method by name; else several are tried and the best is taken.",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float,
        Option(
            help="Percentage points of clean accuracy that may be lost; else nothing is written.",
            min=0,
            max=100,
            rich_help_panel=BEHAVIOUR,
        ),
    ] = 2.0,
    slim: Annotated[
        bool,
        Option(
            "--slim",
            help="Remove pruned channels from the graph; reports size and speed (ONNX only).",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = False,
    run_anyway: p.RunAnyway = False,
    seed: p.Seed = 0,
    device: p.Device = "auto",
    out: p.Out = None,
    formats: p.Formats = "table,json",
    json_only: p.JsonOnly = False,
    no_images: p.NoImages = False,
    quiet: p.Quiet = False,
    no_color: p.NoColor = False,
    budget: p.Budget = None,
    memory_limit: p.Memory = "6GiB",
    timeout: p.Timeout = 600.0,
    jobs: p.Jobs = 0,
) -> None:
    """Write a cleaned copy in the same format, and prove it: reopened, audited again, compared.

    A trigger in an ONNX graph is cut out; one in the weights is unlearned or pruned. Without
    samples only the methods that need none are tried.

    Exit code 0 a copy was written, 3 none was (and why), 2 unreadable or usage.
    """
    given = locals()
    chosen: dict[str, Any] = {} if method is None else {"method": _known(method)}
    options = scan_options(
        given, checks=CHECKS, sanitize=True, max_accuracy_drop=max_accuracy_drop / 100, **chosen
    )
    shown = ("json",) if json_only else commas(formats)
    raise typer.Exit(_sanitize(model, options, shown, out, json_only, quiet, no_color))


def _sanitize(
    model: Path,
    options: Any,
    formats: tuple[str, ...],
    out: Path | None,
    json_only: bool,
    quiet: bool,
    no_color: bool,
) -> int:
    from auditor.commands.writing import folder_for, print_json
    from auditor.report.table import print_sanitized
    from auditor.report.text import visible

    folder = folder_for(model, out, several=False)
    report = audit_one(model, options, formats, folder, quiet or json_only, no_color)
    if json_only:
        print_json([report])
    if report.error is not None:
        if not json_only:
            typer.echo(f"audit: {visible(report.error.message)}", err=True)
        return report.exit_code
    if report.sanitized is None:
        typer.echo(f"audit: {visible(why_not(report), 600)}", err=True)
        return NOT_WRITTEN
    if not (json_only or quiet):
        print_sanitized(report, console_for(no_color))
    if not json_only:
        typer.echo(f"Written: {visible(str(folder / report.sanitized.path))}")
    return 0


def why_not(report: Report) -> str:
    """The sentence why no copy was written."""
    begin = "Not sanitized"
    told = next((n for n in report.notices if n.startswith(begin)), "")
    if told:
        return told
    reasons = [c.reason for c in report.checks if c.status in {"skipped", "incomplete"}]
    return f"{begin}: {next(filter(None, reasons), 'the model could not be run')}."


def _known(method: str) -> str:
    """`method`, told before minutes of work when there is none of that name."""
    from auditor import plugins

    found = sorted(plugin.value.name for plugin in plugins.load("audit.sanitizers").plugins)
    names = ["auto", *found]
    if method not in names:
        raise UsageError(f"there is no method {method!r}; methods are: {', '.join(names)}")
    return method


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("sanitize")(sanitize)
