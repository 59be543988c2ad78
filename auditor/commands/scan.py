"""``audit scan``: parse the command line, audit each model, show and write the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditor.commands import parameters as p
from auditor.commands.common import BEHAVIOUR, INPUT, commas
from auditor.commands.options import scan_options
from auditor.commands.running import audit_all

Option = typer.Option


def scan(  # one parameter per documented option
    models: Annotated[list[Path], typer.Argument(help="ONNX, TorchScript or .pt2 files.")],
    data: p.OptionalData = None,
    data_root: p.DataRoot = None,
    split: p.Split = "test",
    train_data: Annotated[
        str | None, Option(help="The suspect training set.", rich_help_panel=INPUT)
    ] = None,
    max_samples: p.MaxSamples = 500,
    class_names: p.ClassNames = None,
    download: p.Download = False,
    layout: p.Layout = None,
    size: p.Size = None,
    scale: p.Scale = None,
    mean: p.Mean = None,
    std: p.Std = None,
    profile: Annotated[
        str, Option(help="file, data-free or full.", rich_help_panel=BEHAVIOUR)
    ] = "full",
    checks: Annotated[
        str | None, Option(help="Run only these (see audit checks).", rich_help_panel=BEHAVIOUR)
    ] = None,
    skip: Annotated[str | None, Option(help="Leave these out.", rich_help_panel=BEHAVIOUR)] = None,
    sanitize: Annotated[
        bool | None,
        Option(
            "--sanitize/--no-sanitize",
            help="Write a repaired copy (default: when a backdoor is found).",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        Option(
            help="Coefficients of audit calibrate for the probability (default: the packaged).",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = None,
    run_anyway: p.RunAnyway = False,
    seed: p.Seed = 0,
    device: p.Device = "auto",
    out: p.Out = None,
    formats: p.Formats = "table,json",
    json_only: p.JsonOnly = False,
    no_images: p.NoImages = False,
    quiet: p.Quiet = False,
    no_color: p.NoColor = False,
    fail_on: p.FailOn = None,
    config: p.Config = None,
    budget: p.Budget = None,
    memory_limit: p.Memory = "6GiB",
    timeout: p.Timeout = 600.0,
    jobs: p.Jobs = 0,
) -> None:
    """Audit models: is the file safe to open, is there a backdoor, how robust is it.

    Exit code 0 nothing at or above --fail-on, 1 findings, 2 unreadable or usage, 3 incomplete.
    """
    options = scan_options(locals())
    wanted = ("json",) if json_only else commas(formats)
    raise typer.Exit(audit_all(models, options, wanted, out, json_only, quiet, no_color))


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("scan")(scan)
