"""Figures of the studies as PNG: curves, confusion matrices, sheets of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> Figure:
    """A figure without a window system or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path.name


def lines(
    path: Path,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x: str,
    y: str,
) -> str:
    """One line per named series of (x values, y values). Returns the file's name."""
    figure = _figure(6, 3.6)
    axes = figure.add_subplot()
    for name, (across, up) in series.items():
        axes.plot(across, up, marker="o", markersize=3, label=name)
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _save(figure, path)


def training_curves(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Loss beside accuracy by epoch, for each named model's manifest curve."""
    figure = _figure(9, 3.4)
    loss, right = figure.subplots(1, 2)
    for name, curve in curves.items():
        epochs = [row["epoch"] for row in curve]
        loss.plot(epochs, [row["loss"] for row in curve], label=name)
        right.plot(epochs, [row["test_accuracy"] for row in curve], label=f"{name} (test)")
    loss.set(title="training loss", xlabel="epoch")
    right.set(title="accuracy", xlabel="epoch")
    for axes in (loss, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return _save(figure, path)


def confusion_matrices(path: Path, tables: Mapping[str, NDArray[np.int64]]) -> str:
    """Matrices side by side, rows = labels, counts written in."""
    figure = _figure(4.2 * len(tables), 4.8)
    grid = np.atleast_1d(figure.subplots(1, len(tables)))
    for axes, (name, table) in zip(grid, tables.items(), strict=True):
        axes.imshow(
            table / np.maximum(table.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1
        )
        axes.set(title=name, xlabel="predicted", ylabel="label")
        axes.set_xticks(range(len(table)))
        axes.set_yticks(range(len(table)))
        if len(table) <= 12:
            for row, column in np.argwhere(table > 0):
                shade = "white" if table[row, column] > table[row].sum() / 2 else "black"
                axes.text(
                    column,
                    row,
                    table[row, column],
                    ha="center",
                    va="center",
                    fontsize=6,
                    color=shade,
                )
    return _save(figure, path)


def sheet(path: Path, rows: Mapping[str, tuple[NDArray[np.float32], Sequence[str]]]) -> str:
    """One row of images (N, C, H, W) per name, a caption under each image."""
    columns = max(len(images) for images, _ in rows.values())
    figure = _figure(1.1 * columns + 1, 1.45 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, (images, captions)) in zip(grid, rows.items(), strict=True):
        for axes in line:
            axes.axis("off")
        for axes, image, caption in zip(line, images, captions, strict=False):
            axes.imshow(displayable(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(caption, fontsize=7)
        line[0].text(
            -0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8
        )
    return _save(figure, path)


def displayable(image: NDArray[np.float32]) -> NDArray[Any]:
    """(C, H, W) in 0..1 -> (H, W) or (H, W, 3)."""
    clipped = np.clip(image, 0.0, 1.0)
    return clipped[0] if len(clipped) == 1 else np.moveaxis(clipped, 0, 2)
