"""Data sets that need no path: scikit-learn's digits (bundled), and torchvision's own layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from auditor.errors import UnreadableSamples
from auditor.samples.interface import Images

if TYPE_CHECKING:
    from auditor.samples.readers import Request

_DIGITS_TEST = 360
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}


def read_digits(request: Request) -> Images:
    """scikit-learn's 1,797 handwritten 8x8 digits, split once and for all into 1,437 and 360."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(20240229).permutation(len(data.target))
    chosen = order[:_DIGITS_TEST] if request.split == "test" else order[_DIGITS_TEST:]
    pixels = (data.images[chosen].astype(np.float32) / np.float32(16))[:, None]
    labels = data.target[chosen].astype(np.int64)
    return Images(pixels, labels, f"digits ({request.split})", tuple(map(str, range(10))))


def read_torchvision(name: str, root: Path, request: Request) -> Images:
    """A data set in torchvision's own layout under `root`; downloaded only when asked to."""
    from torchvision import datasets

    try:
        loader = getattr(datasets, _TORCHVISION[name])
        data = loader(str(root), train=request.split == "train", download=request.download)
    except (RuntimeError, OSError) as error:
        hint = (
            f"{error}"
            if request.download
            else "put it there, point --data-root or AUDITOR_DATA at it, or add --download"
        )
        raise UnreadableSamples(
            f"data set {name!r} was not found under {root.name}/: {hint}"
        ) from error
    pixels = np.asarray(data.data)
    pixels = np.moveaxis(pixels, 3, 1) if pixels.ndim == 4 else pixels[:, None]
    labels = np.asarray(data.targets, dtype=np.int64)
    every = Images(pixels, labels, f"{name} ({request.split})", tuple(data.classes))
    few = every.shuffled(request.seed, request.limit)
    return Images(
        few.pixels.astype(np.float32) / np.float32(255), few.labels, few.source, few.classes
    )
