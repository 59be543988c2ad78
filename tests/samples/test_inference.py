"""Label matching: an order told from predictions, and labels the model has no class for."""

from __future__ import annotations

import numpy as np

from auditor.samples.inference import match_labels


def test_labels_beyond_the_classes_are_never_matched() -> None:
    scores = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    assert match_labels(scores, (np.arange(40) + 1) % 4) == (3, 0, 1, 2)
    assert match_labels(scores, np.arange(40) % 4 + 1) is None
