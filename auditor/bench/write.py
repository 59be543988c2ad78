"""Files of a bench: rows as CSV, the page, the plots, the coefficients. Renamed when complete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from auditor.bench.page import render
from auditor.bench.plots import draw
from auditor.bench.rows import Row, write_csv
from auditor.bench.tables import Results
from auditor.calibration.model import Calibration, to_json
from auditor.errors import UsageError


def write_results(rows: Sequence[Row], found: Results, folder: Path, command: str) -> list[Path]:
    """``rows.csv``, ``bench.html`` and the PNGs. Raises `UsageError` when it cannot write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = draw(found.detectors, folder)
        table, page = folder / "rows.csv", folder / "bench.html"
        _whole(table, lambda path: write_csv(rows, path))
        text = render(found, command, pictures)
        _whole(page, lambda path: _text(path, text))
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror or error}") from None
    return [table, page, *pictures]


def write_coefficients(models: dict[str, Calibration], path: Path) -> None:
    """The JSON file reports read. Raises `UsageError` when it cannot write."""
    text = json.dumps(to_json(models), indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _whole(path, lambda place: _text(place, text))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Never leave half a file under the final name."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
