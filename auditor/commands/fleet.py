"""``audit fleet``: parse, run, show the totals; the work is `auditor.fleet.driver`'s."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from auditor.commands import parameters as p
from auditor.commands.common import (
    BEHAVIOUR,
    INPUT,
    LIMITS,
    OUTPUT,
    command_line,
    commas,
)
from auditor.commands.options import scan_options

Option = typer.Option


def fleet(  # one parameter per documented option
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, files, patterns, lists (.txt), s3://, hf://org/model, any fsspec URL, "
            "models:/name/3."
        ),
    ],
    out: Annotated[
        Path, Option(help="Folder for store, reports and index.", rich_help_panel=OUTPUT)
    ],
    cluster: Annotated[
        str | None,
        Option(help="ray, ray://HOST:PORT or dask://HOST:PORT.", rich_help_panel=LIMITS),
    ] = None,
    jobs: Annotated[
        int, Option(help="Models at once; 0: by cores and memory.", rich_help_panel=LIMITS)
    ] = 0,
    data: p.OptionalData = None,
    data_root: p.DataRoot = None,
    split: p.Split = "test",
    max_samples: p.MaxSamples = 500,
    class_names: p.ClassNames = None,
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
    run_anyway: p.RunAnyway = False,
    seed: p.Seed = 0,
    device: p.Device = "auto",
    formats: Annotated[
        str,
        Option(
            "--format",
            "-f",
            help="Files per model: json, html, markdown, sarif, ...",
            rich_help_panel=OUTPUT,
        ),
    ] = "json",
    json_only: Annotated[
        bool, Option("--json", help="The totals as JSON on stdout.", rich_help_panel=OUTPUT)
    ] = False,
    no_images: p.NoImages = False,
    quiet: p.Quiet = False,
    no_color: p.NoColor = False,
    fail_on: p.FailOn = None,
    skip_unsupported: Annotated[
        bool,
        Option(
            "--skip-unsupported",
            help="Formats that cannot be audited do not count for the exit code.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    retry: Annotated[
        bool,
        Option("--retry", help="Audit again what lost its process.", rich_help_panel=BEHAVIOUR),
    ] = False,
    config: p.Config = None,
    budget: Annotated[
        float | None,
        Option(help="Seconds for the whole run; the rest next time.", rich_help_panel=LIMITS),
    ] = None,
    model_budget: Annotated[
        float | None,
        Option(help="Seconds for a model's behaviour checks.", rich_help_panel=LIMITS),
    ] = None,
    memory_limit: p.Memory = "2GiB",
    timeout: p.Timeout = 600.0,
    threads: Annotated[int, Option(help="CPU threads a model.", rich_help_panel=LIMITS)] = 1,
) -> None:
    """Audit thousands of models; go on where a run ended, audit again only what changed.

    Exit code as for scan, over all models: 1 findings, 2 something unreadable, 3 incomplete, 0.
    """
    given = locals()
    from auditor.commands.fleet_view import FleetView, print_totals
    from auditor.commands.running import console_for
    from auditor.errors import UsageError
    from auditor.fleet.cluster import pool_for
    from auditor.fleet.driver import FleetOptions, check_formats, run_fleet

    wanted = commas(formats)
    check_formats(wanted)
    if budget is not None and budget <= 0:
        raise UsageError("--budget must be above zero")
    if threads < 1:
        raise UsageError("--threads must be at least 1")
    scan = scan_options(
        given,
        sanitize=False,
        budget=model_budget,
        jobs=threads,
        command=command_line(_without_urls(sys.argv[1:])),
    )
    options = FleetOptions(
        sources=tuple(sources),
        out=out,
        scan=scan,
        formats=wanted,
        budget=budget,
        retry=retry,
        skip_unsupported=skip_unsupported,
    )
    with FleetView(quiet=quiet or json_only, no_color=no_color) as view:
        totals = run_fleet(options, lambda: pool_for(cluster, jobs, scan.memory, device), view.tell)
    if json_only:
        sys.stdout.write(json.dumps(totals.to_json(), indent=2) + "\n")
    elif not quiet:
        print_totals(totals, console_for(no_color))
        typer.echo(f"Index: {out / 'index.html'} (also .csv, .json)", err=True)
    raise typer.Exit(totals.exit_code)


def _without_urls(arguments: list[str]) -> list[str]:
    """The command goes into every report: URLs without what they may carry."""
    from auditor.fleet.redact import shown_url

    return [shown_url(a) if "://" in a else a for a in arguments]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("fleet")(fleet)
