"""How the search for unknown triggers grows with classes, image side and parameters.

    python -m benchmarks.growth [--rows FILE.csv] [--plot FILE.png] [--budget SECONDS]

Small CNNs with random weights (time does not depend on what a network has learned) and random
images are scanned as any artifact is, with the checks a probability rests on; one of the
three grows at a time. Printed: a line a network with the seconds of these checks, images passed
forwards and backwards, and what the budget left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from auditor.calibration.judge import CHECKS
from auditor.options import ScanOptions
from auditor.samples.interface import Images
from auditor.scanning import scan
from benchmarks.tables import write_rows

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
    with tempfile.TemporaryDirectory() as room:
        model = Path(room) / "model.pt"
        torch.jit.trace(net, torch.from_numpy(pixels[:2])).save(str(model))
        options = ScanOptions(
            data=samples, checks=CHECKS, sanitize=False, images=False,
            budget=budget, device="cpu", fail_on="never",
        )  # fmt: skip
        report = scan(model, options=options)
    found = {c.name: c for c in report.checks}
    return Row(
        grows, classes, side, sum(p.numel() for p in net.parameters()),
        round(sum(found[n].seconds for n in CHECKS if n in found), 1),
        int(found["inversion"].metrics.get("inversion.passes", 0)),
        " ".join(n for c in report.checks for n in c.notices if "budget" in n),
    )  # fmt: skip


def plot(rows: list[Row], path: Path) -> None:
    """Three panels, log-log; open circles where the budget ended the search."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.2), sharey=True)
    for axis, grows in zip(axes, ("classes", "image side", "parameters"), strict=True):
        part = [row for row in rows if row.grows == grows]
        x = [getattr(row, grows.replace("image ", "")) for row in part]
        axis.loglog(x, [row.seconds for row in part], "-", color="#3b6ea5")
        for value, row in zip(x, part, strict=True):
            face = "white" if row.left_out else "#3b6ea5"
            axis.plot(value, row.seconds, "o", color="#3b6ea5", markerfacecolor=face)
        axis.set_xlabel(grows)
        axis.set_xticks(x, [f"{value:,}" for value in x], fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds, 2 cores")
    figure.suptitle("Search for unknown triggers (open: ended by the time budget)", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--budget", type=float, default=120.0)
    given = parser.parse_args(arguments)
    rows = []
    for case in cases():
        rows.append(measure(*case, given.budget))
        print(rows[-1], flush=True)
    if given.rows:
        write_rows(rows, given.rows)
    if given.plot:
        plot(rows, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
