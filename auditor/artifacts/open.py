"""From a path to an `Artifact`, by content."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from auditor.artifacts.interface import Artifact
from auditor.artifacts.recognise import recognise

READERS = {
    "onnx": "auditor.artifacts.onnx:OnnxArtifact",
    "torchscript": "auditor.artifacts.torchscript:TorchScriptArtifact",
    "pt2": "auditor.artifacts.exported:ExportedArtifact",
}
"""What `recognise` tells -> the class that reads it, imported when such a file is met."""


def open_artifact(path: str | Path) -> Artifact:
    """The model file at `path`, whatever its extension; nothing of it is executed.

    Raises `UnreadableArtifact` (missing, empty, truncated) or `UnsupportedArtifact` (a format we
    refuse by name), each in one sentence.
    """
    path = Path(path)
    module, _, name = READERS[recognise(path)].partition(":")
    return cast(Artifact, getattr(import_module(module), name)(path))
