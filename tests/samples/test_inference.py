"""Label matching: an order told from predictions, and labels the model has no class for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from auditor.samples.inference import infer, match_labels
from auditor.samples.interface import Images
from auditor.samples.preprocessing import Overrides, Preprocessing


def test_labels_beyond_the_classes_are_never_matched() -> None:
    scores = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    assert match_labels(scores, (np.arange(40) + 1) % 4) == (3, 0, 1, 2)
    assert match_labels(scores, np.arange(40) % 4 + 1) is None


def _sized(wrong: float, sure: float) -> Callable[[np.ndarray], np.ndarray]:
    """Scores that name the label but for the share `wrong`; `sure` is their spread."""

    def scores(labels: np.ndarray) -> np.ndarray:
        said = labels.copy()
        missed = np.random.default_rng(0).permutation(384)[: round(384 * wrong)]
        missed = missed[missed < len(labels)]
        said[missed] = (said[missed] + 1) % 10
        return (sure * np.eye(10, dtype=np.float32))[said]

    return scores


@pytest.mark.parametrize(
    ("odd_wrong", "chosen"),
    [(0.08, "0..1"), (0.01, "0..255")],
    ids=["a little more accurate and far too sure", "much more accurate"],
)
def test_a_scale_that_only_makes_the_network_too_sure_loses(odd_wrong: float, chosen: str) -> None:
    """ReLU networks work at any scale: 255 times too much may even win a few images."""
    labels = np.arange(384) % 10
    samples = Images(np.zeros((384, 1, 8, 8), np.float32), labels, "made up")
    answers = {"0..1": _sized(0.1, 4.0), "0..255": _sized(odd_wrong, 1000.0)}

    def predict(preprocessing: Preprocessing, pixels: np.ndarray) -> np.ndarray:
        known = answers.get(preprocessing.label)
        if known is None:
            return np.zeros((len(pixels), 10), np.float32)
        return known(labels[: len(pixels)])

    found = infer(None, samples, predict, Overrides(layout="NCHW"))
    assert found.best.preprocessing.label == chosen
