"""``audit bench`` and ``audit calibrate``: measure detection on known models, fit a probability."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.commands import parameters as p
from auditor.commands.common import BEHAVIOUR, INPUT, LIMITS, OUTPUT, command_line, commas
from auditor.errors import UsageError

if TYPE_CHECKING:
    from auditor.calibration.model import Calibration

Option = typer.Option
SUFFIXES = ("onnx", "pt")


def bench(  # one parameter per documented option
    folder: Annotated[
        Path | None, typer.Argument(help="A zoo: models with manifests, any depth.")
    ] = None,
    rows: Annotated[
        list[Path] | None,
        Option("--from", help="Rows of earlier runs; nothing is scanned.", rich_help_panel=INPUT),
    ] = None,
    data: p.OptionalData = None,
    data_root: p.DataRoot = None,
    samples: Annotated[
        int, Option(help="Clean samples a model; 0: data-free.", rich_help_panel=INPUT)
    ] = 500,
    formats: Annotated[
        str, Option("--formats", help="onnx, pt or both.", rich_help_panel=INPUT)
    ] = "onnx,pt",
    limit: Annotated[
        int | None, Option(min=1, help="At most so many files.", rich_help_panel=INPUT)
    ] = None,
    against: Annotated[
        str | None,
        Option(
            help="Baselines on the same models: neural-cleanse, neural-cleanse-full, mm-bd, "
            "activation-clustering.",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        Option(
            help="Judge by these coefficients (default: cross-validation).",
            rich_help_panel=BEHAVIOUR,
        ),
    ] = None,
    seed: p.Seed = 0,
    out: Annotated[
        Path, Option(help="Rows, tables, plots; run again to resume.", rich_help_panel=OUTPUT)
    ] = Path("bench-out"),
    quiet: Annotated[bool, Option("--quiet", "-q", help="Tables only.")] = False,
    no_color: p.NoColor = False,
    budget: Annotated[
        float, Option(help="Seconds a model may take at most.", rich_help_panel=LIMITS)
    ] = 600.0,
    jobs: Annotated[
        int, Option("--jobs", "-j", min=1, help="Models at once.", rich_help_panel=LIMITS)
    ] = 1,
) -> None:
    """Measure detection on models whose truth is known: AUC, calibration, targets, cost.

    Each is scanned in its sandbox; its manifest is read afterwards. Exit code 3 when some have no
    result.
    """
    from auditor.bench import view
    from auditor.bench.rows import Row, read
    from auditor.bench.run import Progress, jobs_for, run
    from auditor.bench.tables import results
    from auditor.bench.write import write_results
    from auditor.commands.running import console_for

    if (folder is None) == (not rows):
        raise UsageError("give a folder of models, or --from with rows of an earlier run")
    earlier = [row for path in rows or [] for row in read(path)]
    given = max((row.samples for row in earlier), default=samples)
    coefficients = _coefficients(calibration, given)
    failed: list[str] = []

    def told(state: Progress) -> None:
        if state.failed:
            failed.append(state.failed)
        if not quiet or state.failed:
            typer.echo(view.line(state), err=True)

    measured: list[Row] = []
    if folder is not None:
        due = jobs_for(
            folder,
            _formats(formats),
            samples=_samples(samples),
            seed=seed,
            data=data,
            data_root=data_root,
            against=_against(against),
            budget=budget,
            limit=limit,
        )
        measured = run(due, out, jobs, told)
    measured += earlier
    found = results(list({row.key: row for row in measured}.values()), coefficients, seed)
    view.show(found, console_for(no_color))
    files = write_results(measured, found, out, command_line(sys.argv[1:]))
    if not quiet:
        typer.echo(f"Files: {', '.join(path.name for path in files)} in {out}", err=True)
    raise typer.Exit(3 if failed or any(not row.complete for row in measured) else 0)


def calibrate(
    rows: Annotated[list[Path], typer.Argument(help="rows.csv or rows.jsonl of audit bench.")],
    out: Annotated[Path, Option(help="The coefficients file.", rich_help_panel=OUTPUT)],
    population: Annotated[
        str, Option(help="What the models are, in words, for the provenance.")
    ] = "unnamed population",
    seed: p.Seed = 0,
    force: Annotated[
        bool, Option("--force", help="Write although the held-out figures are poor.")
    ] = False,
) -> None:
    """Fit the probability to rows of audit bench and write its coefficients with provenance.

    Rows with samples give both models (with and without samples); half of the rows judge a fit to
    the other half first.
    """
    from auditor.bench.fitting import calibrate as fitted
    from auditor.bench.rows import read
    from auditor.bench.write import write_coefficients

    every = [row for path in rows for row in read(path)]
    without = [row for row in every if row.samples == 0]
    with_samples = [row for row in every if row.samples > 0]
    done = []
    if with_samples:
        done.append(fitted(with_samples, population, seed=seed))
    done.append(fitted(without or with_samples, population, data_free=True, seed=seed))
    for one in done:
        typer.echo(one.sentence)
    kept = [one for one in done if one.defensible or force]
    for one in done:
        if one not in kept:
            typer.echo(f"{one.kind}: not written, its held-out figures are too poor", err=True)
    if not kept:
        raise UsageError("no calibration is defensible on these rows; --force writes it anyway")
    write_coefficients({one.kind: one.model for one in kept}, out)
    typer.echo(f"wrote {out}")


def _samples(count: int) -> int:
    if count and count < 30:
        raise UsageError("--samples must be 0 (data-free) or at least 30")
    return count


def _formats(text: str) -> tuple[str, ...]:
    wanted = commas(text)
    unknown = [word for word in wanted if word not in SUFFIXES]
    if unknown or not wanted:
        raise UsageError(f"--formats must be onnx, pt or both, not {text!r}")
    return wanted


def _against(text: str | None) -> tuple[str, ...]:
    from auditor.bench.measure import AGAINST

    wanted = commas(text)
    for word in wanted:
        if word not in AGAINST:
            raise UsageError(f"--against knows {', '.join(AGAINST)}, not {word!r}")
    return wanted


def _coefficients(path: Path | None, samples: int) -> Calibration | None:
    if path is None:
        return None
    from auditor.calibration.model import load

    models = load(path)
    kind = "samples" if samples else "data-free"
    if kind not in models:
        raise UsageError(f"{path.name} holds no calibration for audits of this kind ({kind})")
    return models[kind]


def register(app: typer.Typer) -> None:
    """Mount both commands."""
    app.command("bench")(bench)
    app.command("calibrate")(calibrate)
