"""What `audit data` leaves behind besides the report: lists, a montage, projections. Returns bytes.

Nothing here writes: the command does, each file by rename.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UsageError
from auditor.poison.engine import Examination
from auditor.poison.interface import Floats, Study

COLUMNS = ("index", "name", "label", "score", "flagged", "reason", "suggested_label")
SHOWN, ACROSS = 60, 12
PANELS = 20
_POINTS = 1_500

Own = Callable[[int], int]
"""The set's label for one of the model's."""


def rows(
    found: Examination, labels: NDArray[np.int64], names: Sequence[str], own: Own
) -> list[tuple[Any, ...]]:
    """One row a sample, most suspicious first (ties in the set's order); see `COLUMNS`."""
    order = np.lexsort((np.arange(len(labels)), -found.score))
    table = []
    for index in map(int, order):
        better = int(found.suggested[index])
        table.append(
            (
                index,
                names[index] if names else "",
                int(labels[index]),
                round(float(found.score[index]), 6),
                bool(found.flagged[index]),
                found.reasons.get(index, ""),
                "" if better < 0 else own(better),
            )
        )
    return table


def as_csv(table: Sequence[Sequence[Any]]) -> bytes:
    """RFC 4180; names that a spreadsheet would take for a formula get a quote in front."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table:
        writer.writerow([_inert(cell) for cell in row])
    return text.getvalue().encode("utf-8", "replace")


def _inert(cell: Any) -> Any:
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + cell
    return str(cell).lower() if isinstance(cell, bool) else cell


def as_parquet(table: Sequence[Sequence[Any]]) -> bytes:
    """The same columns, typed. Raises `UsageError` without pyarrow."""
    pyarrow, parquet = require_parquet()
    columns = dict(zip(COLUMNS, zip(*table, strict=True), strict=True))
    columns["suggested_label"] = tuple(
        None if value == "" else int(value) for value in columns["suggested_label"]
    )
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({k: list(v) for k, v in columns.items()}), buffer)
    return buffer.getvalue()


def require_parquet() -> tuple[Any, Any]:
    """pyarrow and its parquet module. Raises `UsageError` without them."""
    from importlib import import_module

    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("--parquet needs pyarrow: pip install 'model-auditor[parquet]'") from None


def montage(study: Study, found: Examination) -> NDArray[np.uint8]:
    """The most suspicious samples in rank order, row by row: uint8 (H, W, 3)."""
    order = np.lexsort((np.arange(len(found.score)), -found.score))[:SHOWN]
    images = study.suspects.floats(order)
    tiles = [_tile(image) for image in images]
    height, width = tiles[0].shape[:2]
    across = min(ACROSS, len(tiles))
    down = -(-len(tiles) // across)
    page = np.full((down * (height + 4) - 4, across * (width + 4) - 4, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // across * (height + 4), number % across * (width + 4)
        page[top : top + height, left : left + width] = tile
    return page


def _tile(image: Floats) -> NDArray[np.uint8]:
    step = max(1, max(image.shape[1:]) // 96)
    factor = max(1, 56 // max(image.shape[1:]))
    pixels = np.moveaxis(image[:, ::step, ::step], 0, 2)
    large = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
    large = np.repeat(large, 3, axis=2) if large.shape[2] == 1 else large
    return np.rint(np.clip(large, 0, 1) * 255).astype(np.uint8)


def projection(study: Study, found: Examination, label: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Two principal components (n, 2) of a class's activations and who is flagged (n,)."""
    index = np.flatnonzero(study.labels == label)
    if len(index) > _POINTS:
        rng = np.random.default_rng([study.seed, label])
        index = np.sort(rng.choice(index, _POINTS, replace=False))
    points = study.activations[index].astype(np.float64)
    points -= points.mean(axis=0)
    _, vectors = np.linalg.eigh(points.T @ points)
    flat = np.zeros((len(index), 2), np.float32)
    two = points @ vectors[:, ::-1][:, :2]
    flat[:, : two.shape[1]] = two
    return flat, found.flagged[index]


def projections(study: Study, found: Examination) -> bytes:
    """A PNG with one panel a class (poisoned classes first, at most 20)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = sorted(found.verdicts, key=lambda k: (found.verdicts[k] != "poisoned", k))[:PANELS]
    across = min(5, len(labels))
    down = -(-len(labels) // across)
    figure = Figure(figsize=(2.6 * across, 2.6 * down), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for number, label in enumerate(labels):
        axes = figure.add_subplot(down, across, number + 1)
        points, bad = projection(study, found, label)
        axes.scatter(points[~bad, 0], points[~bad, 1], s=3, c="#7f8fa6", linewidths=0)
        axes.scatter(points[bad, 0], points[bad, 1], s=5, c="#c0392b", linewidths=0)
        axes.set_title(f"class {label}: {found.verdicts[label]}", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W) or (H, W, 3) as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
