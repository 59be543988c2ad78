"""What a repair is judged by, on the twin with replaced parameters: accuracy and recovered ASR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from auditor.classifier import Classifier
    from auditor.samples.interface import Images
    from auditor.triggers.interface import RecoveredTrigger

_BATCH = 256


def twin_labels(
    classifier: Classifier,
    pixels: NDArray[np.float32],
    parameters: Mapping[str, Tensor] | None = None,
) -> NDArray[np.int64]:
    """Predicted classes (N,) of the twin with some parameters replaced."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(pixels), _BATCH):
            chunk = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _BATCH]))
            logits = classifier.twin_logits(chunk.to(classifier.device), parameters)
            parts.append(logits.argmax(1).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def twin_accuracy(
    classifier: Classifier, samples: Images, parameters: Mapping[str, Tensor] | None = None
) -> float:
    """Clean accuracy of the twin on `samples`."""
    return float((twin_labels(classifier, samples.pixels, parameters) == samples.labels).mean())


def twin_asr(
    classifier: Classifier,
    samples: Images,
    trigger: RecoveredTrigger,
    parameters: Mapping[str, Tensor] | None = None,
) -> float:
    """Share of images of other classes that `trigger` sends to its target; 0 without any."""
    others = samples.pixels[samples.labels != trigger.target]
    if not len(others):
        return 0.0
    stamped = trigger.trigger.apply(others)
    return float((twin_labels(classifier, stamped, parameters) == trigger.target).mean())
