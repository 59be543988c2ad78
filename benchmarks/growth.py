"""How the search for unknown triggers grows with classes, image side and parameters.

    python -m benchmarks.growth [--budget SECONDS] [--rows FILE.csv] [--plot FILE.png] [--draw]

Small CNNs with random weights (time does not depend on what a network has learned) and random
images are scanned as any artifact is, with the checks a probability rests on; one of the
three grows at a time. Printed: a line a network with the seconds of these checks, images passed
forwards and backwards, and what the budget left out.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from auditor.samples.interface import Images
from benchmarks.detecting import detect_in, left_out, seconds
from benchmarks.tables import shown

CLASSES = (10, 30, 100, 1000)
SIDES = (16, 32, 64, 128)
WIDTHS = (8, 16, 32, 64, 128)
_SAMPLES = 500


@dataclass(frozen=True, slots=True)
class Row:
    """`grows` is what the case varies; `left_out` says what was not searched."""

    grows: str
    classes: int
    side: int
    parameters: int
    seconds: float
    passes: int
    left_out: str = ""


def network(classes: int, side: int, width: int) -> nn.Module:
    """conv - pool - conv - pool - dense, `width` channels and twice as many."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * width, classes),
    ).eval()  # fmt: skip


def cases() -> Iterator[tuple[str, int, int, int]]:
    """(what grows, classes, side, width)."""
    yield from (("classes", k, 32, 16) for k in CLASSES)
    yield from (("image side", 10, side, 16) for side in SIDES)
    yield from (("parameters", 10, 32, width) for width in WIDTHS)


def measure(grows: str, classes: int, side: int, width: int, budget: float) -> Row:
    """Scan one network."""
    net = network(classes, side, width)
    rng = np.random.default_rng(0)
    pixels = rng.random((_SAMPLES, 3, side, side)).astype(np.float32)
    samples = Images(pixels, np.arange(_SAMPLES, dtype=np.int64) % classes, "random images")
    report = detect_in(net, samples, budget)
    (inversion,) = (c for c in report.checks if c.name == "inversion")
    return Row(
        grows, classes, side, sum(p.numel() for p in net.parameters()), seconds(report),
        int(inversion.metrics.get("inversion.passes", 0)), left_out(report),
    )  # fmt: skip


def plot(rows: list[Row], path: Path, budget: float) -> None:
    """Seconds, and milliseconds a pass, by what grows; open circles where the budget cut."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(10, 5.2), sharey="row", sharex="col")
    for column, grows in enumerate(("classes", "image side", "parameters")):
        part = [row for row in rows if row.grows == grows]
        x = [getattr(row, grows.replace("image ", "")) for row in part]
        time = [row.seconds for row in part]
        cost = [1000 * row.seconds / max(1, row.passes) for row in part]
        for axis, values in zip(axes[:, column], (time, cost), strict=True):
            axis.plot(x, values, "-", color="#3b6ea5")
            for at, value, row in zip(x, values, part, strict=True):
                face = "white" if row.left_out else "#3b6ea5"
                axis.plot(at, value, "o", color="#3b6ea5", markerfacecolor=face)
            axis.set_xscale("log")
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        axes[0, column].axhline(budget, color="#a04040", linestyle="--", linewidth=1)
        axes[1, column].set_xlabel(grows)
        axes[1, column].set_xticks(x, [f"{value:,}" for value in x], fontsize=8)
    axes[0, 0].set_ylim(0, 1.15 * max(budget, *(row.seconds for row in rows)))
    axes[1, 0].set_yscale("log")
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("ms a gradient pass")
    title = f"Search for unknown triggers, budget {budget:g} s (open: something was left out)"
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def read(path: Path) -> list[Row]:
    """The rows of an earlier run."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            Row(
                row["grows"], int(row["classes"]), int(row["side"]), int(row["parameters"]),
                float(row["seconds"]), int(row["passes"]), row["left_out"],
            )
            for row in csv.DictReader(stream)
        ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--draw", action="store_true", help="plot ROWS as they are")
    given = parser.parse_args(arguments)
    if given.draw:
        rows = read(given.rows)
    else:
        rows = shown((measure(*case, given.budget) for case in cases()), given.rows)
    if given.plot:
        plot(rows, given.plot, given.budget)
    return 0


if __name__ == "__main__":
    sys.exit(main())
