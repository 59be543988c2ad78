"""From a path to an `Artifact`, by content."""

from __future__ import annotations

from pathlib import Path

from auditor.artifacts.interface import Artifact
from auditor.artifacts.recognise import recognise


def open_artifact(path: str | Path) -> Artifact:
    """The model file at `path`, whatever its extension; nothing of it is executed.

    Raises `UnreadableArtifact` (missing, empty, truncated) or `UnsupportedArtifact` (a format we
    refuse by name), each in one sentence.
    """
    path = Path(path)
    kind = recognise(path)
    if kind == "torchscript":
        from auditor.artifacts.torchscript import TorchScriptArtifact

        return TorchScriptArtifact(path)
    if kind == "pt2":
        from auditor.artifacts.exported import ExportedArtifact

        return ExportedArtifact(path)
    from auditor.artifacts.onnx import OnnxArtifact

    return OnnxArtifact(path)
