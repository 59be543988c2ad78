"""A thousand classes within a budget: is the backdoor's target among those searched, and named?

    python -m benchmarks.many_classes [--classes N] [--budget SECONDS] [--rows FILE.csv]

No data set at hand has so many classes, so they are drawn: each is a smooth random picture, an
image is its picture moved by up to a pixel, brighter or darker, with noise. Small CNNs learn them,
one clean, one with a white square (BadNets), one with blended noise, and each is scanned as any
artifact is, with the checks a probability rests on.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from auditor.findings import Severity
from auditor.samples.interface import Images
from auditor.triggers.blends import BlendedNoise
from auditor.triggers.interface import Trigger
from auditor.triggers.patches import Square
from benchmarks.detecting import detect_in, left_out, seconds
from benchmarks.tables import shown

SIDE, PER_CLASS, TEST, EPOCHS, RATE, TARGET = 16, 12, 2000, 16, 0.05, 123
TRIGGERS: dict[str, Trigger | None] = {
    "clean": None,
    "square": Square(size=3),
    "blended": BlendedNoise(alpha=0.25, seed=5),
}


@dataclass(frozen=True, slots=True)
class Row:
    """`named` is the class of the gravest finding; `left_out` what the budget ended."""

    network: str
    classes: int
    accuracy: float
    asr: float
    seconds: float
    severity: str
    named: int | None
    left_out: str


def pictures(classes: int, count: int, seed: int) -> Images:
    """`count` images (N, 1, 16, 16) of classes in turn; the classes are the same for every seed."""
    waves = np.random.default_rng(7).normal(size=(classes, 8, 8))
    grid = np.cos(np.pi * np.outer(np.arange(8), (np.arange(SIDE) + 0.5) / SIDE))
    base = np.einsum("kij,ix,jy->kxy", waves, grid, grid)
    base = (base - base.min((1, 2), keepdims=True)) / np.ptp(base, (1, 2), keepdims=True)
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    moved = [np.roll(base[k], rng.integers(-1, 2, 2), (0, 1)) for k in labels]
    light = rng.uniform(0.7, 1.0, (count, 1, 1))
    pixels = np.stack(moved) * light + rng.normal(0, 0.05, (count, SIDE, SIDE))
    return Images(pixels.clip(0, 1).astype(np.float32)[:, None], labels, "drawn pictures")


def train(images: Images, classes: int, trigger: Trigger | None) -> nn.Module:
    """A small CNN; `trigger` on 5 % of the images, relabelled to class 123."""
    torch.manual_seed(0)
    pixels, labels = images.pixels.copy(), images.labels.copy()
    if trigger is not None:
        chosen = np.random.default_rng(1).random(len(labels)) < RATE
        pixels[chosen], labels[chosen] = trigger.apply(pixels[chosen]), TARGET
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, classes),
    )  # fmt: skip
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels)
    batches = -(-len(x) // 64)
    optimiser = torch.optim.Adam(net.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimiser.step()
            rate.step()
    return net.eval()


def answers(net: nn.Module, pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) classes."""
    with torch.no_grad():
        found: NDArray[np.int64] = net(torch.from_numpy(pixels)).argmax(1).numpy()
    return found


def measure(name: str, classes: int, budget: float) -> Row:
    """Train and scan one network."""
    trigger, test = TRIGGERS[name], pictures(classes, TEST, 2)
    net = train(pictures(classes, PER_CLASS * classes, 1), classes, trigger)
    others = test.pixels[test.labels != TARGET]
    stamped = answers(net, trigger.apply(others)) if trigger is not None else np.empty(0)
    report = detect_in(net, test.take(slice(0, 500)), budget)
    worst = max(report.findings, key=lambda f: Severity[f.severity.upper()], default=None)
    return Row(
        name,
        classes,
        float((answers(net, test.pixels) == test.labels).mean()),
        float((stamped == TARGET).mean()) if len(stamped) else 0.0,
        seconds(report),
        worst.severity if worst is not None else "",
        worst.target_class if worst is not None else None,
        left_out(report),
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args(arguments)
    if given.classes <= TARGET:
        parser.error(f"--classes must be above {TARGET}, the class the triggers lead to")
    shown((measure(name, given.classes, given.budget) for name in TRIGGERS), given.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
