"""Small made-up sets: five classes of blurred bars, and a model that knows a corner trigger."""

from __future__ import annotations

import numpy as np

from auditor.poison.interface import Study, Suspects

SIDE, CLASSES = 12, 5


def shapes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 1, 12, 12): class k is a bar at row 2k, shifted and noisy; labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.uniform(0, 60, (count, 1, SIDE, SIDE))
    for number, label in enumerate(labels):
        start = int(rng.integers(0, 4))
        images[number, 0, 2 * label : 2 * label + 2, start : start + 8] += rng.uniform(120, 190)
    return np.clip(images, 0, 255).astype(np.uint8), labels.astype(np.int64)


def model(images: np.ndarray, target: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Activations (n, 6) and scores (n, 5): the row sums, and one unit for a white corner."""
    rows = images.mean(axis=(1, 3))[:, : 2 * CLASSES].reshape(len(images), CLASSES, 2).sum(axis=2)
    corner = (images[:, 0, -2:, -2:].min(axis=(1, 2)) > 0.9).astype(np.float32)
    activations = np.column_stack([rows * 4, corner * 3]).astype(np.float32)
    scores = activations[:, :CLASSES] * 3
    scores[:, target] += corner * 50
    return activations, scores.astype(np.float32)


def poisoned(count: int = 1200, share: float = 0.08, target: int = 2) -> tuple[Study, np.ndarray]:
    """A dirty-label patch set and who is poisoned (n,)."""
    images, labels = shapes(count)
    rng = np.random.default_rng(1)
    pool = np.flatnonzero(labels != target)
    chosen = rng.choice(pool, int(share * count), replace=False)
    images[chosen, 0, -2:, -2:] = 255
    labels[chosen] = target
    bad = np.zeros(count, bool)
    bad[chosen] = True
    return study(images, labels), bad


def clean(count: int = 1200) -> Study:
    """The same without poison, the model still knowing the corner."""
    return study(*shapes(count))


def study(images: np.ndarray, labels: np.ndarray) -> Study:
    suspects = Suspects(images, labels)
    activations, scores = model(suspects.floats(slice(None)))
    return Study(suspects, activations, scores, lambda x: model(x)[1])
