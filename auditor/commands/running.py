"""Audit models and show what came out: what scan, robustness and sanitize do alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from auditor.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from auditor.options import ScanOptions
    from auditor.policy.baseline import Baseline
    from auditor.policy.model import Policy
    from auditor.report.model import Report


def audit_all(
    models: list[Path],
    options: ScanOptions,
    formats: tuple[str, ...],
    out: Path | None,
    json_only: bool,
    quiet: bool,
    no_color: bool,
) -> int:
    """Audit each of `models`, show and write its report; the exit code over all of them."""
    from auditor.commands.writing import folder_for, print_json
    from auditor.verdict import overall_exit

    reports: list[Report] = []
    for model in models:
        folder = folder_for(model, out, several=len(models) > 1)
        report = audit_one(model, options, formats, folder, quiet or json_only, no_color)
        reports.append(report)
        if not json_only:
            show(report, folder, formats, quiet=quiet, no_color=no_color)
    if json_only:
        print_json(reports)
    elif len(reports) > 1 and not quiet:
        from auditor.report.table import print_summary

        print_summary(reports, console_for(no_color))
    return overall_exit(report.exit_code for report in reports)


def audit_one(
    model: Path,
    options: ScanOptions,
    formats: tuple[str, ...],
    folder: Path,
    silent: bool,
    no_color: bool,
) -> Report:
    """Audit `model` with `folder` for its files, and write the report there unless it failed."""
    from dataclasses import replace

    from auditor.commands.progress import Steps
    from auditor.commands.writing import write_report
    from auditor.report.registry import get_format
    from auditor.scanning import scan

    for name in formats:
        get_format(name)  # an unknown format is told before minutes of work
    with Steps(model.name, quiet=silent, no_color=no_color) as steps:
        report = scan(model, options=replace(options, out=folder), told=steps.tell)
    if report.error is None:
        write_report(report, formats, folder)
    return report


def show(
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
        print_report(report, console_for(no_color))
    typer.echo(f"Reports: {visible(str(folder))}", err=True)


def console_for(no_color: bool) -> Console:
    """Standard output, without colour where none is wanted."""
    from rich.console import Console

    return Console(no_color=no_color or None)


def gate(word: str | None) -> str | None:
    """A word of ``--fail-on``. Raises `UsageError` for any other."""
    if word is not None and word not in {"critical", "high", "medium", "low", "never"}:
        raise UsageError(f"--fail-on must be critical, high, medium, low or never, not {word!r}")
    return word


def policy_from(config: Path | None) -> tuple[Policy | None, str, Baseline | None]:
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
