"""``audit zoo``: build models whose truth is known. Commands only parse, call and show.

Heavy modules are imported inside the commands: ``audit --help`` stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from auditor.errors import AuditError, UsageError

app = typer.Typer(
    name="zoo",
    help="Build, list and poison models whose truth is known, to measure detectors against.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

DATASET = "digits (bundled), mnist, fashion-mnist, cifar10, or a folder per class, .npz or .tar"
ROOT = "where named data sets lie (default: AUDITOR_DATA, else the user's cache folder)"

Dataset = Annotated[str, typer.Option("--dataset", "-d", help=DATASET)]
Root = Annotated[Path | None, typer.Option("--data-root", help=ROOT)]
Seed = Annotated[int, typer.Option("--seed", min=0, help="the same seed gives the same weights")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]


@app.command()
def build(
    names: Annotated[list[str], typer.Argument(help="recipes or groups; see `audit zoo list`")],
    dataset: Dataset = "digits",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="[zoo-out/DATASET]")] = None,
    data_root: Root = None,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="for every model")] = None,
    arch: Annotated[str | None, typer.Option(help="network of every model")] = None,
    target: Annotated[int | None, typer.Option(min=0, help="target class of attacks [6]")] = None,
    rate: Annotated[float | None, typer.Option(help="poisoning rate of attacks")] = None,
    train_samples: Annotated[int | None, typer.Option(min=20, help="train on so many")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all")] = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train the named models and export each as ONNX and TorchScript with its manifest.

    Exit code 3 when a model stayed below its own acceptance (it is kept, and says so).
    """
    if rate is not None and not 0.0 < rate <= 1.0:
        raise UsageError(f"--rate must be above 0 and at most 1, not {rate}")
    from zoo.recipes.registry import Workshop, resolve

    recipes = resolve(names)
    _set_threads(threads)
    from zoo.architectures import ARCHITECTURES
    from zoo.datasets import load_dataset, plain_name
    from zoo.page import write_page
    from zoo.progress import RichReporter, manifest_table

    if arch is not None and arch not in ARCHITECTURES:
        raise UsageError(f"--arch {arch} is unknown; choose from {', '.join(ARCHITECTURES)}")
    folder = out or Path("zoo-out") / plain_name(dataset)
    console = Console()
    data = load_dataset(dataset, root=data_root, train=train_samples)
    with RichReporter(console, quiet=quiet) as reporter:
        shop = Workshop(
            data, folder, seed, epochs, arch, target, rate, device, reporter, root=data_root
        )
        try:
            for recipe in recipes:
                recipe.run(shop)
        except ValueError as error:
            raise UsageError(f"{recipe.name} cannot be built on {data.name}: {error}") from error
    console.print(manifest_table(shop.manifests, f"{data.name} zoo in {folder}"))
    command = f"audit zoo build {' '.join(names)} --dataset {data.name} --seed {seed}"
    pages = write_page(folder, command)
    if pages is not None:
        console.print(f"studies: {pages[0]} and {pages[1].name}")
    if not all(manifest.accepted for manifest in shop.manifests):
        raise typer.Exit(3)


@app.command("list")
def list_recipes() -> None:
    """Every recipe and network the zoo knows."""
    from rich.table import Table

    from zoo.architectures import ARCHITECTURES
    from zoo.recipes.registry import GROUPS, load

    console = Console()
    table = Table(title="recipes: audit zoo build NAME")
    table.add_column("name", no_wrap=True)
    table.add_column("what it builds")
    for name, parts in GROUPS.items():
        table.add_row(f"[bold]{name}[/bold]", "group: " + ", ".join(parts))
    for recipe in load().values():
        table.add_row(recipe.name, recipe.title)
    console.print(table)
    console.print("networks (--arch): " + ", ".join(ARCHITECTURES))


@app.command()
def population(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder; run again to resume")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="number of models")] = 30,
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="one or more, by comma")
    ] = "digits",
    data_root: Root = None,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="processes; -1: one a core")] = 1,
    static: Annotated[
        str | None, typer.Option(help="exact mix CLEAN,ADVERSARIAL,ATTACKED instead of 2:1:3")
    ] = None,
    train_samples: Annotated[int, typer.Option(min=20, help="at most so many each")] = 6000,
    epochs: Annotated[int | None, typer.Option(min=1, help="for every model")] = None,
    archs: Annotated[str | None, typer.Option(help="networks to draw from, by comma")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Draw and build many models with recorded truth; the same seed gives the same population.

    Models that missed their own acceptance even after retraining are marked in population.json.
    """
    from zoo.architectures import ARCHITECTURES
    from zoo.population import ARCHS, Plan, run
    from zoo.progress import population_progress

    chosen = tuple(archs.split(",")) if archs else ARCHS
    for name in chosen:
        if name not in ARCHITECTURES:
            raise UsageError(f"--archs {name} is unknown; choose from {', '.join(ARCHITECTURES)}")
    plan = Plan(tuple(dataset.split(",")), count, seed, _mix(static), train_samples, epochs, chosen)
    console = Console()
    results = run(plan, out, root=data_root, jobs=jobs, device=device)
    short = population_progress(results, count, console, quiet=quiet)
    if short:
        names = ", ".join(item.name for item in short)
        console.print(f"[red]{len(short)} below their acceptance:[/red] {names}")


@app.command()
def schema() -> None:
    """Print the JSON schema of manifests."""
    import json

    from auditor.manifest import manifest_schema

    typer.echo(json.dumps(manifest_schema(), indent=2))


@app.command()
def inject(
    model: Annotated[Path, typer.Argument(help="an ONNX or TorchScript classifier")],
    style: Annotated[str, typer.Option("--style", help="kind of graph backdoor")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the new file")],
    target: Annotated[int, typer.Option(min=0, help="class the trigger leads to")] = 0,
    shape: Annotated[
        str | None, typer.Option(help="image C,H,W: needed for TorchScript, which stores none")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write a copy of MODEL with a backdoor put into its graph, without any training."""
    if not model.is_file():
        raise UsageError(f"there is no file {model}")
    if out.resolve() == model.resolve():
        raise UsageError("--out must be another file than MODEL")
    with model.open("rb") as stream:
        is_archive = stream.read(4) == b"PK\x03\x04"
    try:
        if is_archive:
            from zoo import inject_torchscript

            if shape is None:
                raise UsageError("--shape C,H,W is needed for TorchScript, which stores none")
            size = _three(shape, "--shape")
            inject_torchscript.inject(model, out, style, target, seed, shape=size)
        else:
            from zoo import inject_onnx

            inject_onnx.inject(model, out, style, target, seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    Console().print(f"wrote {out}")


@app.command()
def retrain(
    manifest: Annotated[Path, typer.Argument(help="NAME.manifest.json of a zoo model")],
    clean: Annotated[Path, typer.Option("--clean", help="what audit data --write-clean wrote")],
    data_root: Root = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="write the new network here")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all")] = 0,
    device: Device = "auto",
) -> None:
    """Train the model again on the cleaned set: clean accuracy and ASR before and after."""
    from rich.table import Table

    from zoo.retrain import retrain as run

    _set_threads(threads)
    got = run(manifest, clean, root=data_root, out=out, device=device)
    table = Table(title="Before and after cleaning")
    for column in ("measure", "before", "after"):
        table.add_column(column)
    table.add_row("training samples", f"{got.samples_before:,}", f"{got.samples_after:,}")
    table.add_row("clean accuracy", f"{got.accuracy_before:.2%}", f"{got.accuracy_after:.2%}")
    for before, after in zip(got.asr_before, got.asr_after, strict=True):
        table.add_row("ASR", f"{before:.2%}", f"{after:.2%}")
    Console().print(table)


def _mix(text: str | None) -> tuple[int, int, int] | None:
    return None if text is None else _three(text, "--static")


def _three(text: str, option: str) -> tuple[int, int, int]:
    try:
        first, second, third = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} wants three numbers by comma, not {text!r}") from error
    return first, second, third


def _set_threads(threads: int) -> None:
    """Fix torch's threads: the sum order, and so the weights, depend on their number."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def main() -> None:
    """`python -m zoo.commands`: for developers; users call ``audit zoo``."""
    try:
        app()
    except AuditError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
