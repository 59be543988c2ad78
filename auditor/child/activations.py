"""Child operation ``activations``: penultimate features and scores of images, chunk by chunk.

The first call carries ``path`` and what `behave` takes, and opens the model; later calls carry
only ``pixels``. Chunks keep the child small whatever the size of the set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from auditor.artifacts.open import open_artifact
from auditor.child import behave
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import NotAClassifier, Session, open_session
from auditor.errors import UnsupportedArtifact

_STATE: dict[str, Session] = {}


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """With ``path``: open, and answer with the session's facts, or ``reason`` why not.

    With ``pixels`` uint8 or float32 (N, C, H, W): ``scores`` (N, K) and, when ``features`` is
    asked for, ``features`` (N, D), both float32.
    """
    if "path" in params:
        return _open(params, arrays), {}
    classifier = _STATE["session"].classifier
    pixels = arrays["pixels"]
    images = pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        images /= np.float32(255)
    found = {"scores": classifier.predict(images)}
    if params.get("features"):
        found["features"] = classifier.features(images)
    return {}, found


def _open(params: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    request = behave.request_from(params, arrays)
    artifact = open_artifact(request.path)
    try:
        runtime = artifact.open_runtime(threads=request.threads)
        session = open_session(request, artifact, runtime)
    except (NotAClassifier, UnsupportedArtifact) as reason:
        return {"reason": str(reason)}
    classifier = session.classifier
    if classifier.twin is None or classifier.twin.features is None:
        why = classifier.twin_reason or "its last learned layer was not recognised"
        return {"reason": f"no activations can be had: {why}"}
    _STATE["session"] = session
    assert session.samples is not None
    given, used = request.samples, session.samples
    assert given is not None
    order = [int(used.labels[given.labels == k][0]) for k in np.unique(given.labels)]
    return {
        "session": session.facts,
        "notices": session.notices,
        "labels": [int(k) for k in np.unique(given.labels)],
        "model_labels": order,
    }
