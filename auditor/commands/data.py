"""``audit data DATA``: which training samples are poisoned or mislabelled, and the set without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditor.commands import parameters as p
from auditor.commands.common import INPUT, OUTPUT, commas
from auditor.commands.options import scan_options
from auditor.commands.running import console_for

if TYPE_CHECKING:
    from auditor.data_audit import DataAudit
    from auditor.options import ScanOptions

Option = typer.Option


def data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="The training set: a folder per class, .npz with x and y, IDX folder, .tar, or "
            "digits, mnist, fashion-mnist, cifar10.",
        ),
    ],
    model: Annotated[
        Path | None,
        Option(help="The model trained on it (default: our own).", rich_help_panel=INPUT),
    ] = None,
    data_root: p.DataRoot = None,
    split: p.Split = "train",
    download: p.Download = False,
    layout: p.Layout = None,
    size: p.Size = None,
    scale: p.Scale = None,
    mean: p.Mean = None,
    std: p.Std = None,
    run_anyway: p.RunAnyway = False,
    seed: p.Seed = 0,
    device: p.Device = "auto",
    write_clean: Annotated[
        Path | None,
        Option(
            help="Write the set without the flagged samples, in its own layout.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    parquet: Annotated[
        bool, Option("--parquet", help="samples.parquet too.", rich_help_panel=OUTPUT)
    ] = False,
    out: p.Out = None,
    formats: p.Formats = "table,json",
    json_only: p.JsonOnly = False,
    no_images: p.NoImages = False,
    quiet: p.Quiet = False,
    no_color: p.NoColor = False,
    fail_on: p.FailOn = None,
    config: p.Config = None,
    budget: Annotated[
        float | None,
        Option(
            help="Seconds after which no further method starts (default: none).",
            rich_help_panel=p.LIMITS,
        ),
    ] = None,
    memory_limit: p.Memory = "6GiB",
    timeout: p.Timeout = 600.0,
    jobs: p.Jobs = 0,
) -> None:
    """Audit a training set: poisoned classes and samples, wrong labels, copies, foreign pictures.

    Exit code 0 nothing at or above --fail-on, 1 findings, 2 unreadable or usage, 3 incomplete.
    """
    options = scan_options(locals())
    shown = ("json",) if json_only else commas(formats)
    folder = out or Path("audit-reports") / (Path(source).name or "data")
    silent = quiet or json_only
    audit = _audit(source, model, options, shown, write_clean, parquet, silent, no_color)
    files = _write(audit, shown, folder, parquet=parquet, images=not no_images)
    if write_clean is not None:
        from auditor.samples.cleaned import write_clean as write

        files.append(write(audit.data, ~audit.found.flagged, write_clean))
    raise typer.Exit(_show(audit, shown, folder, files, json_only, quiet, no_color))


def _audit(
    source: str,
    model: Path | None,
    options: ScanOptions,
    formats: tuple[str, ...],
    write_clean: Path | None,
    parquet: bool,
    silent: bool,
    no_color: bool,
) -> DataAudit:
    from auditor.commands.progress import Steps
    from auditor.data_audit import audit_data
    from auditor.poison.outputs import require_parquet
    from auditor.report.registry import get_format
    from auditor.samples.cleaned import check_goal

    for name in formats:
        get_format(name)  # an unknown format is told before minutes of work
    if parquet:
        require_parquet()

    def ready(read: Any) -> None:
        if write_clean is not None:
            check_goal(read, write_clean)

    with Steps(Path(source).name, quiet=silent, no_color=no_color) as steps:
        return audit_data(source, model, options, told=steps.tell, ready=ready)


def _write(
    audit: DataAudit, formats: tuple[str, ...], folder: Path, *, parquet: bool, images: bool
) -> list[Path]:
    from auditor.commands.writing import write_atomically, write_bytes, write_report
    from auditor.poison import outputs

    write_report(audit.report, formats, folder)
    found, study = audit.found, audit.study
    table = outputs.rows(found, audit.data.labels, audit.data.names, audit.own_label)
    files: list[tuple[str, bytes]] = [("samples.csv", outputs.as_csv(table))]
    if parquet:
        files.append(("samples.parquet", outputs.as_parquet(table)))
    kept = [str(index) for index in range(len(found.flagged)) if not found.flagged[index]]
    write_atomically(folder / "clean-index.txt", "\n".join(kept) + "\n")
    if images:
        files.append(("montage.png", outputs.png(outputs.montage(study, found))))
        files.append(("projections.png", outputs.projections(study, found)))
    for check in found.checks:
        files += [
            (f"{figure.name}.png", outputs.png(figure.pixels))
            for figure in check.figures
            if images or not figure.from_samples
        ]
    for name, content in files:
        write_bytes(folder / name, content)
    return [folder / "clean-index.txt", *(folder / name for name, _ in files)]


def _show(
    audit: DataAudit,
    formats: tuple[str, ...],
    folder: Path,
    files: list[Path],
    json_only: bool,
    quiet: bool,
    no_color: bool,
) -> int:
    from auditor.commands.writing import print_json
    from auditor.report.table import print_report
    from auditor.report.text import visible

    report = audit.report
    if json_only:
        print_json([report])
    elif quiet:
        typer.echo(f"{visible(report.artifact.path)}: {report.verdict}")
    else:
        if "table" in formats:
            print_report(report, console_for(no_color))
        names = ", ".join(visible(str(f.name if f.parent == folder else f)) for f in files)
        typer.echo(f"Reports: {visible(str(folder))} ({names})", err=True)
    return report.exit_code


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("data")(data)
