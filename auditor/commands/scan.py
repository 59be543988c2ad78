"""``audit scan``: parse the command line, audit each model, show and write the reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.commands.common import (
    BEHAVIOUR,
    GATE,
    INPUT,
    LIMITS,
    OUTPUT,
    classes,
    command_line,
    commas,
    memory,
    numbers,
    side,
)
from auditor.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from auditor.options import ScanOptions
    from auditor.policy.baseline import Baseline
    from auditor.policy.model import Policy
    from auditor.report.model import Report

FORMATS = "table, json, html, markdown, sarif, cyclonedx, junit; several with commas"
DATA = (
    "Labelled clean samples: a folder per class, .npz with x and y, IDX folder, .tar, or "
    "digits, mnist, fashion-mnist, cifar10."
)
Option = typer.Option


def scan(  # one parameter per documented option
    models: Annotated[list[Path], typer.Argument(help="ONNX, TorchScript or .pt2 files.")],
    data: Annotated[str | None, Option(help=DATA, rich_help_panel=INPUT)] = None,
    data_root: Annotated[
        Path | None,
        Option(help="Where named data sets lie (default: AUDITOR_DATA).", rich_help_panel=INPUT),
    ] = None,
    split: Annotated[str, Option(help="train or test.", rich_help_panel=INPUT)] = "test",
    train_data: Annotated[
        str | None, Option(help="The suspect training set.", rich_help_panel=INPUT)
    ] = None,
    max_samples: Annotated[
        int, Option(help="For the expensive checks.", rich_help_panel=INPUT)
    ] = 500,
    class_names: Annotated[
        str | None,
        Option("--classes", help="The model's class names in order.", rich_help_panel=INPUT),
    ] = None,
    download: Annotated[
        bool, Option("--download", help="Allow fetching a named data set.", rich_help_panel=INPUT)
    ] = False,
    layout: Annotated[
        str | None, Option(help="Override: NCHW, NHWC, NHW, flat, ...", rich_help_panel=INPUT)
    ] = None,
    size: Annotated[
        str | None, Option(help="Override: HEIGHTxWIDTH.", rich_help_panel=INPUT)
    ] = None,
    scale: Annotated[
        float | None, Option(help="Override: what 1.0 becomes (255).", rich_help_panel=INPUT)
    ] = None,
    mean: Annotated[
        str | None, Option(help="Override: per channel, after --scale.", rich_help_panel=INPUT)
    ] = None,
    std: Annotated[str | None, Option(help="Override.", rich_help_panel=INPUT)] = None,
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
    run_anyway: Annotated[
        bool,
        Option(
            "--run-anyway",
            help="Load even a file that would act on the machine.",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = False,
    seed: Annotated[int, Option(help="Same seed, same report.", rich_help_panel=BEHAVIOUR)] = 0,
    device: Annotated[str, Option(help="auto, cpu or cuda.", rich_help_panel=BEHAVIOUR)] = "auto",
    out: Annotated[
        Path | None,
        Option(help="Folder for files (default: audit-reports/NAME/).", rich_help_panel=OUTPUT),
    ] = None,
    formats: Annotated[
        str, Option("--format", "-f", help=FORMATS, rich_help_panel=OUTPUT)
    ] = "table,json",
    json_only: Annotated[
        bool, Option("--json", help="JSON alone on stdout.", rich_help_panel=OUTPUT)
    ] = False,
    no_images: Annotated[
        bool, Option("--no-images", help="Leave pictures of samples out.", rich_help_panel=OUTPUT)
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", rich_help_panel=OUTPUT)] = False,
    no_color: Annotated[bool, Option("--no-color", rich_help_panel=OUTPUT)] = False,
    fail_on: Annotated[
        str | None,
        Option(help="critical, high, medium, low or never (default: high).", rich_help_panel=GATE),
    ] = None,
    config: Annotated[
        Path | None,
        Option(help="Policy file (default: audit.toml, pyproject).", rich_help_panel=GATE),
    ] = None,
    budget: Annotated[
        float | None,
        Option(help="Seconds for behaviour checks (default: 60).", rich_help_panel=LIMITS),
    ] = None,
    memory_limit: Annotated[
        str, Option("--memory", help="Of the model's process.", rich_help_panel=LIMITS)
    ] = "6GiB",
    timeout: Annotated[float, Option(help="Seconds for one step.", rich_help_panel=LIMITS)] = 600.0,
    jobs: Annotated[int, Option(help="CPU threads; 0: all.", rich_help_panel=LIMITS)] = 0,
) -> None:
    """Audit models: is the file safe to open, is there a backdoor, how robust is it.

    Exit code 0 nothing at or above --fail-on, 1 findings, 2 unreadable or usage, 3 incomplete.
    """
    from auditor.options import ScanOptions
    from auditor.samples.preprocessing import Overrides

    policy, source, baseline = _policy(config)
    options = ScanOptions(
        data=data,
        data_root=data_root,
        train_data=train_data,
        split=split,
        download=download,
        max_samples=max_samples,
        classes=classes(class_names),
        checks=commas(checks),
        skip=commas(skip),
        profile=profile,
        sanitize=sanitize,
        images=not no_images,
        memory=memory(memory_limit),
        timeout=timeout,
        budget=budget,
        device=device,
        jobs=jobs,
        seed=seed,
        run_anyway=run_anyway,
        fail_on=_fail_on(fail_on),
        overrides=Overrides(layout, scale, numbers(mean, "mean"), numbers(std, "std"), side(size)),
        policy=policy,
        policy_source=source,
        baseline=baseline,
        command=command_line(sys.argv[1:]),
    )
    wanted = ("json",) if json_only else commas(formats)
    raise typer.Exit(_scan_all(models, options, wanted, out, json_only, quiet, no_color))


def _scan_all(
    models: list[Path],
    options: ScanOptions,
    formats: tuple[str, ...],
    out: Path | None,
    json_only: bool,
    quiet: bool,
    no_color: bool,
) -> int:
    from dataclasses import replace

    from auditor.commands.progress import Steps
    from auditor.commands.writing import folder_for, print_json, write_report
    from auditor.report.registry import get_format
    from auditor.scanning import scan as audit_one
    from auditor.verdict import overall_exit

    for name in formats:
        get_format(name)  # an unknown format is told before minutes of work
    reports: list[Report] = []
    for model in models:
        folder = folder_for(model, out, several=len(models) > 1)
        with Steps(model.name, quiet=quiet or json_only, no_color=no_color) as steps:
            report = audit_one(model, options=replace(options, out=folder), told=steps.tell)
        reports.append(report)
        if report.error is None:
            write_report(report, formats, folder)
        if not json_only:
            _show(report, folder, formats, quiet=quiet, no_color=no_color)
    if json_only:
        print_json(reports)
    elif len(reports) > 1 and not quiet:
        from auditor.report.table import print_summary

        print_summary(reports, _console(no_color))
    return overall_exit(report.exit_code for report in reports)


def _show(
    report: Report, folder: Path, formats: tuple[str, ...], *, quiet: bool, no_color: bool
) -> None:
    """An error in one sentence on standard error; else the tables and where the files are."""
    from auditor.report.table import print_report
    from auditor.report.text import visible

    if report.error is not None:
        typer.echo(f"audit: {visible(report.error.message)}", err=True)
        return
    if quiet:
        typer.echo(f"{visible(report.artifact.path)}: {report.verdict}")
        return
    if "table" in formats:
        print_report(report, _console(no_color))
    typer.echo(f"Reports: {visible(str(folder))}", err=True)


def _console(no_color: bool) -> Console:
    from rich.console import Console

    return Console(no_color=no_color or None)


def _fail_on(word: str | None) -> str | None:
    if word is not None and word not in {"critical", "high", "medium", "low", "never"}:
        raise UsageError(f"--fail-on must be critical, high, medium, low or never, not {word!r}")
    return word


def _policy(config: Path | None) -> tuple[Policy | None, str, Baseline | None]:
    """The policy file to use, its name for the report, and its baseline.

    Looked up from the current folder, never from the model's: a stranger's folder must not set the
    rules of its own audit.
    """
    from auditor.policy.baseline import load_baseline
    from auditor.policy.load import find_policy, load_policy

    path = config or find_policy(Path.cwd())
    if path is None:
        return None, "default", None
    policy = load_policy(path)
    baseline = load_baseline(path.parent / policy.baseline) if policy.baseline else None
    return policy, path.name, baseline


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("scan")(scan)
