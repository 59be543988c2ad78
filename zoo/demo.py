"""``audit demo``: build a small zoo, scan it, compare each verdict with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from auditor.manifest import Manifest
    from auditor.report.model import Report

BUDGET = 30.0
"""Seconds of behaviour checks per artifact: six artifacts are to be done in minutes."""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything.")] = Path(
        "demo-out"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Build three digits models in both formats, scan all six, compare with the truth.

    Exit code 1 when a verdict is not the right one.
    """
    from dataclasses import replace

    from rich.console import Console

    from auditor.commands.progress import Steps
    from auditor.commands.writing import write_report
    from auditor.manifest import manifest_path, read_manifest
    from auditor.options import ScanOptions
    from auditor.scanning import scan
    from zoo.commands import build

    # One thread: on networks this small a second one costs more than it brings.
    build(["all"], out=out / "zoo", seed=seed, threads=1, quiet=quiet)
    rows = []
    options = ScanOptions(data="digits", budget=BUDGET, seed=seed, jobs=1)
    for model in _artifacts(out / "zoo"):
        folder = out / "reports" / model.name
        with Steps(model.name, quiet=quiet, no_color=False) as steps:
            report = scan(model, options=replace(options, out=folder), told=steps.tell)
        write_report(report, ("json", "html", "markdown"), folder)
        truth = read_manifest(manifest_path(model))
        rows.append((model, truth, report, true_asr(folder, truth, report)))
    console = Console()
    console.print(_table(rows))
    console.print(f"Reports and sanitized models: {out / 'reports'}", markup=False)
    if not all(right(truth, report) for _, truth, report, _ in rows):
        raise typer.Exit(1)


def right(truth: Manifest, report: Report) -> bool:
    """A backdoored model must fail with its target named; any other must pass."""
    if truth.attack is None:
        return report.verdict == "pass"
    named = set(report.backdoor.target_classes)
    return report.verdict == "fail" and named == set(truth.attack.targets)


def true_asr(folder: Path, truth: Manifest, report: Report) -> float | None:
    """ASR of the manifest's own trigger on the sanitized file; None when there is none."""
    if report.sanitized is None or truth.attack is None:
        return None
    from auditor.samples.readers import read_samples
    from auditor.triggers.registry import trigger_from_json
    from zoo.export import run_onnx, run_torchscript

    path = folder / report.sanitized.path
    run = run_onnx if path.suffix == ".onnx" else run_torchscript
    test, target = read_samples("digits"), truth.attack.targets[0]
    others = test.pixels[test.labels != target]
    scores = run(path, trigger_from_json(truth.attack.triggers[0]).apply(others))
    return float((scores.argmax(axis=1) == target).mean())


def _artifacts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in {".onnx", ".pt"})


def _table(rows: Iterable[tuple[Path, Manifest, Report, float | None]]) -> object:
    from rich.table import Table

    table = Table(title="Six artifacts, their truth and their verdict")
    for name in ("artifact", "truth", "verdict", "target", "accuracy", "sanitized", "true ASR"):
        table.add_column(name)
    table.add_column("right")
    for model, truth, report, asr in rows:
        attack = truth.attack
        kind = truth.kind if attack is None else f"{truth.kind} -> {attack.targets[0]}"
        accuracy = report.samples.clean_accuracy if report.samples is not None else None
        repaired = report.sanitized
        table.add_row(
            model.name,
            kind,
            report.verdict,
            ", ".join(map(str, report.backdoor.target_classes)),
            "" if accuracy is None else f"{accuracy:.1%}",
            "" if repaired is None else f"{repaired.after['accuracy.clean']:.1%}",
            "" if asr is None or attack is None else f"{attack.asr[0]:.1%} to {asr:.1%}",
            "yes" if right(truth, report) else "NO",
        )
    return table
