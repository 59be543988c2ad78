"""Unknown triggers among thirty classes: MNIST, Fashion-MNIST and grey CIFAR-10 as one set.

    python -m benchmarks.thirty [--data-root DIR] [--rows FILE.csv] [--threads N]

Trains small networks on the three sets together (28 x 28, grey), clean and with two attacks of the
zoo's catalogue, and scans each with the checks a probability rests on. Printed: a line a network
with its verdict, the class named, the probability and the seconds these checks took.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auditor.calibration.judge import CHECKS
from auditor.samples.interface import Images
from benchmarks.detecting import detect, seconds
from benchmarks.tables import shown
from zoo.build import Specification, build
from zoo.catalogue import CATALOGUE, Draft
from zoo.datasets import Dataset, load_dataset
from zoo.population import RATES
from zoo.training import Training

SETS = ("mnist", "fashion-mnist", "cifar10")
NETWORKS = (
    ("small-cnn", None, 0), ("small-cnn", "square", 4), ("small-cnn", "blended", 17),
    ("bn-cnn", "square", 25),
)  # fmt: skip
"""(architecture, attack of the catalogue, target class)."""

_SIDE, _TRAIN, _TEST, _EPOCHS = 28, 4000, 1000, 6


@dataclass(frozen=True, slots=True)
class Row:
    """`target` is -1 for clean networks, `named` -1 where no class was accused."""

    architecture: str
    attack: str
    target: int
    accuracy: float
    asr: float
    severity: str
    named: int
    probability: float | None
    outside: bool
    seconds: float


def thirty(root: Path | None) -> Dataset:
    """The three sets side by side, classes 0 to 29."""
    halves: dict[str, list[Images]] = {"train": [], "test": []}
    names: list[str] = []
    for source in SETS:
        data = load_dataset(source, root=root, train=_TRAIN, test=_TEST)
        for half, images in (("train", data.train), ("test", data.test)):
            halves[half].append(Images(grey(images.pixels), images.labels + len(names), half))
        names += [f"{source}:{name}" for name in data.classes]
    return Dataset("thirty", joined(halves["train"]), joined(halves["test"]), tuple(names))


def grey(pixels: np.ndarray) -> np.ndarray:
    """(N, C, H, W) -> (N, 1, 28, 28): the mean of the channels, cut in the middle."""
    edge = (pixels.shape[2] - _SIDE) // 2
    cut = pixels[:, :, edge : edge + _SIDE, edge : edge + _SIDE]
    return (np.round(cut.mean(1, keepdims=True) * 255) / 255).astype(np.float32)


def joined(parts: list[Images]) -> Images:
    """One set of all parts, mixed."""
    pixels = np.concatenate([p.pixels for p in parts])
    return Images(pixels, np.concatenate([p.labels for p in parts]), "thirty").shuffled(0)


def measure(data: Dataset, arch: str, attack: str | None, target: int, threads: int) -> Row:
    """Build one network and scan it."""
    draft = Draft(data.side, data.count_classes, target)
    chosen = CATALOGUE[attack].make(draft) if attack else None
    training = Training(_EPOCHS, 64, RATES[arch], weight_decay=1e-5)
    spec = Specification(
        "model", "thirty", arch, training, attack=chosen, retries=0, keep_training_set=False
    )
    with tempfile.TemporaryDirectory() as room:
        truth = build(spec, data, Path(room), device="cpu").manifest
        few = data.test.take(slice(0, 500))
        report = detect(Path(room) / "model.onnx", few, 600.0, threads)
    found = [f for f in report.findings if f.target_class is not None and f.check in CHECKS]
    named = found[0] if found else None
    said = report.backdoor
    return Row(
        arch, attack or "-", target if attack else -1, round(truth.clean_accuracy, 4),
        round(min(truth.attack.asr), 4) if truth.attack else 0.0,
        named.severity if named else "-", named.target_class if named else -1,
        said.probability, bool(said.outside_calibration),
        seconds(report),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Build, scan, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    data = thirty(given.data_root)
    shown((measure(data, *case, given.threads) for case in NETWORKS), given.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
