"""Child operation ``scores``: the native scores of the session of the last ``behave``."""

from __future__ import annotations

from typing import Any

import numpy as np

from auditor.child.behave import STATE
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import Session

_NOISE = 64


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``most`` samples, ``seed``. Arrays: ``scores`` (N, K) and ``labels`` (N,).

    Without samples, seeded noise images are scored and ``labels`` is empty.
    """
    session: Session | None = STATE.get("session")
    if session is None:
        return {"scored": False}, {}
    if session.samples is not None:
        few = session.samples.take(slice(0, int(params["most"])))
        pixels, labels = few.pixels, few.labels
    else:
        rng = np.random.default_rng(int(params["seed"]))
        pixels = rng.random((_NOISE, *session.classifier.image_shape), dtype=np.float32)
        labels = np.zeros(0, np.int64)
    scores = session.classifier.predict(pixels)
    return {"scored": True}, {"scores": scores, "labels": labels}
