"""SHA-256 of files, streamed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from auditor.artifacts.interface import FileDigest
from auditor.errors import UnreadableArtifact


def digest_file(path: Path, name: str = "") -> FileDigest:
    """Digest of one file of an artifact; `name` defaults to the file's own name.

    Raises `UnreadableArtifact` when the file cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise UnreadableArtifact(f"{path} cannot be read: {error.strerror or error}") from None
    return FileDigest(name or path.name, digest.hexdigest(), size)
