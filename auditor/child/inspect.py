"""Child operation ``inspect``: what can be run, differentiated and probed in an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from auditor.artifacts.open import open_artifact
from auditor.child.file_audit import Emit, Reply
from auditor.child.session import NotAClassifier, Request, open_session
from auditor.errors import UnsupportedArtifact
from auditor.samples.preprocessing import Overrides


def run(params: dict[str, Any], arrays: dict[str, Any], emit: Emit) -> Reply:
    """``params``: ``path``, ``threads``. Loads the artifact and builds its twin without samples."""
    artifact = open_artifact(Path(params["path"]))
    request = Request(artifact.path, Overrides(), None, None, int(params["threads"]), "cpu")
    try:
        runtime = artifact.open_runtime(threads=request.threads)
        emit({"runtime": True}, {})
        session = open_session(request, artifact, runtime)
    except (NotAClassifier, UnsupportedArtifact) as reason:
        return {"classifier": False, "reason": str(reason)}, {}
    classifier = session.classifier
    return {
        "classifier": True,
        "input": classifier.preprocessing.describe(),
        "classes": classifier.classes,
        "twin": session.facts.get("twin", {}),
        "reason": classifier.twin_reason,
        "notice": runtime.notice,
        "features": classifier.twin.features if classifier.twin is not None else None,
        "layers": [
            [la.label, la.kind, "x".join(map(str, la.shape)), la.weight or ""]
            for la in classifier.layers
        ],
    }, {}
