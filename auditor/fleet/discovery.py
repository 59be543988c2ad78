"""Is this file a model? Told from its bytes; the name only decides what to say of a broken one."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from auditor.artifacts.recognise import HEAD, recognise
from auditor.errors import UnreadableArtifact, UnsupportedArtifact

MODEL_NAMES = frozenset(
    (
        *(
            ".onnx",
            ".pt",
            ".pth",
            ".pt2",
            ".ts",
            ".torchscript",
            ".ptl",
            ".ckpt",
            ".ort",
            ".tflite",
        ),
        *(".keras", ".h5", ".safetensors", ".gguf", ".pkl", ".pickle", ".mlmodel"),
    )
)
"""Names that promise a model: a file called so is listed even when its bytes are none."""

NO_MODELS = ("a NumPy array", "a NumPy archive", "an office document", "a plain zip archive")
"""What `recognise` refuses by name and is data, not a model."""


def classify(path: Path) -> str:
    """Empty when `path` is a model or claims to be one; else why it is passed over.

    A format that is recognised and cannot be audited (a pickle, safetensors) is a model: it must
    appear in the index as one nobody has audited.
    """
    try:
        recognise(path)
    except UnsupportedArtifact as refusal:
        return _passed(
            path, str(refusal), is_model=not any(f" is {w}" in str(refusal) for w in NO_MODELS)
        )
    except UnreadableArtifact as refusal:
        return _passed(path, str(refusal), is_model=False)
    return ""


def classify_head(name: str, head: bytes, size: int) -> tuple[str, bool]:
    """(reason to pass over or empty, sure) for a remote file of which only `head` is known.

    A zip tells what it is in its last bytes only, so it is a candidate and not sure.
    """
    suffix = Path(name).suffix.lower()
    if head.startswith(b"PK") and size > len(head):
        return "", False
    with tempfile.TemporaryDirectory(prefix="audit-head-") as folder:
        sample = Path(folder) / f"head{suffix if suffix in MODEL_NAMES else ''}"
        sample.write_bytes(head)
        os.truncate(sample, size)  # sparse: of the right size without its bytes
        return classify(sample), True


def stamp_of(info: os.stat_result) -> str:
    """Changes whenever a file was written or replaced."""
    return f"{info.st_size}:{info.st_mtime_ns}:{info.st_ino}"


def is_file(path: Path) -> bool:
    """A regular file, links followed; anything that cannot be looked at is none."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _passed(path: Path, reason: str, *, is_model: bool) -> str:
    return "" if is_model or path.suffix.lower() in MODEL_NAMES else reason


__all__ = ["HEAD", "MODEL_NAMES", "NO_MODELS", "classify", "classify_head", "is_file", "stamp_of"]
