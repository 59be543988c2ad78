"""``audit inspect MODEL``: what it is, how we read it, what can be probed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from auditor.artifacts.interface import Description

_LAYERS = 40


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX, TorchScript or .pt2 file.")],
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Load it in the sandbox to list layers.")
    ] = True,
    json_only: Annotated[bool, typer.Option("--json", help="JSON alone on stdout.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All layers and operators.")] = False,
) -> None:
    """Describe a model file: format, inputs, operators, layers, gradients."""
    import json

    from rich.console import Console

    from auditor.artifacts.recognise import recognise
    from auditor.child.file_audit import description_to_wire
    from auditor.options import ScanOptions
    from auditor.stages import audit_file, light_worker

    kind = recognise(model)
    options = ScanOptions()
    with light_worker(model, options, kind) as worker:
        stage = audit_file(worker, model, ())
    if stage.died is not None or stage.description is None:
        raise stage.died or RuntimeError("the file was not described")
    loaded = _loaded(model, options) if run else {}
    if json_only:
        record = {**description_to_wire(stage.description), "loaded": loaded}
        typer.echo(json.dumps(record, indent=2, allow_nan=False))
        return
    console = Console()
    _identity(console, model, stage.description, every)
    if run:
        _running(console, loaded, every)


def _loaded(model: Path, options: Any) -> dict[str, Any]:
    """What the child found by loading it; a death is a reason like any other."""
    from auditor.errors import AuditError
    from auditor.stages import heavy_worker

    try:
        with heavy_worker(model, options) as worker:
            params = {"path": str(model.absolute()), "threads": 1}
            return worker.result("inspect", params).body
    except AuditError as error:
        return {"classifier": False, "reason": str(error)}


def _identity(console: Console, model: Path, description: Description, every: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from auditor.report.text import visible

    table = Table(box=None, show_header=False, title=visible(model.name), title_style="bold")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = [
        ("format", f"{description.format} (version {description.version})"),
        ("producer", description.producer),
        ("sha256", description.sha256),
        ("files", ", ".join(f"{f.name} ({f.bytes:,} bytes)" for f in description.files)),
        ("parameters", f"{description.parameters:,}"),
        ("inputs", _tensors(description.inputs)),
        ("outputs", _tensors(description.outputs)),
        ("operators", _operators(description, every)),
        *description.extra.items(),
    ]
    for name, value in rows:
        table.add_row(visible(name), Text(visible(value)))
    console.print(table)


def _tensors(tensors: Any) -> str:
    return "; ".join(
        f"{t.name} {t.dtype} "
        + (
            "(shape unknown)"
            if t.shape is None
            else str([s if s is not None else "?" for s in t.shape])
        )
        for t in tensors
    )


def _operators(description: Description, every: bool) -> str:
    ranked = sorted(description.operators.items(), key=lambda kv: -kv[1])
    shown = ranked if every else ranked[:15]
    rest = len(ranked) - len(shown)
    text = ", ".join(f"{name} {count}" for name, count in shown)
    return text + (f" and {rest} more kinds (--all)" if rest else "")


def _running(console: Console, loaded: dict[str, Any], every: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from auditor.report.text import visible

    if not loaded.get("classifier"):
        console.print(Text(f"Dynamic checks: none. {visible(str(loaded.get('reason', '')))}"))
        return
    twin = loaded.get("twin") or {}
    console.print(Text(f"Read as: {visible(str(loaded['input']))}; {loaded['classes']} classes"))
    if loaded.get("notice"):
        console.print(Text(visible(str(loaded["notice"]))))
    if loaded.get("reason"):
        console.print(Text(f"Gradients: none. {visible(str(loaded['reason']))}"))
        return
    difference = twin.get("max_relative_difference", 0.0)
    console.print(
        Text(
            f"Gradients: yes; the twin agrees with the native runtime within {difference:.1e} "
            f"(relative); ends in {visible(str(twin.get('tail')))}"
        )
    )
    if twin.get("without_gradient"):
        blocked = ", ".join(visible(str(name)) for name in twin["without_gradient"])
        console.print(Text(f"Operators without a useful gradient: {blocked}"))
    layers = loaded.get("layers", [])
    table = Table("layer", "kind", "shape", "weights", box=None, header_style="bold")
    for label, kind, shape, weight in layers if every else layers[:_LAYERS]:
        table.add_row(*(Text(visible(str(v))) for v in (label, kind, shape, weight)))
    console.print(table)
    if len(layers) > _LAYERS and not every:
        console.print(f"... and {len(layers) - _LAYERS} more layers (--all)")


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("inspect")(inspect)
