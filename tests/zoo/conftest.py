"""Fixtures of the zoo tests: a tiny data set that trains in a second."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.samples.interface import Images
from zoo.datasets import Dataset, load_dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """scikit-learn's digits, all of them."""
    return load_dataset("digits")


@pytest.fixture
def grey() -> Images:
    """100 grey 8x8 images of mid-tone noise, 10 of each of 10 classes."""
    rng = np.random.default_rng(0)
    pixels = np.rint(rng.uniform(60, 190, (100, 1, 8, 8))) / 255
    labels = np.tile(np.arange(10), 10).astype(np.int64)
    return Images(pixels.astype(np.float32), labels, "noise", tuple(map(str, range(10))))
