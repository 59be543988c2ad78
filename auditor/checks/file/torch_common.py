"""What the torch file checks share: opening the archive once, its pickles, its nested archives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from auditor.artifacts.torch_archive import Pickle, TorchArchive, is_zip, open_archive
from auditor.checks.interface import FileContext, Skipped
from auditor.errors import UnreadableArtifact

TORCHSCRIPT = ("torchscript",)
EITHER = ("torchscript", "pt2")
_PICKLE_NAMES = (".pkl", ".debug_pkl", ".pickle", ".pt", ".pth", ".bin")


@lru_cache(maxsize=4)
def _open(path: Path, _modified: int, _size: int) -> TorchArchive:
    return open_archive(path)


def archive_of(context: FileContext, *kinds: str) -> TorchArchive:
    """The torch archive of the artifact. Raises `Skipped` for other formats (or other `kinds`)."""
    path = context.artifact.path
    try:
        if not is_zip(path):
            raise Skipped("not a torch archive")
        stat = path.stat()
        archive = _open(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, UnreadableArtifact) as error:
        raise Skipped(f"not a readable torch archive: {error}") from None
    if archive.kind == "unknown" or (kinds and archive.kind not in kinds):
        raise Skipped(f"not for {archive.kind} archives")
    return archive


def with_nested(archive: TorchArchive, depth: int = 2) -> Iterator[tuple[str, TorchArchive]]:
    """(member prefix, archive) of the archive and of torch archives inside it, to `depth`."""
    yield "", archive
    if depth <= 0:
        return
    for name, member in archive.members.items():
        if member.size > 4 and archive.peek(member, 4) == b"PK\x03\x04":
            try:
                inner = archive.nested(name)
            except UnreadableArtifact:
                continue
            for prefix, found in with_nested(inner, depth - 1):
                yield f"{name}!{prefix}", found


def pickles(archive: TorchArchive) -> Iterator[tuple[str, Pickle | str]]:
    """(member, pickle) of every member that is a pickle by name or by its first bytes.

    A pickle that cannot be read is given as the reason (str). Members that merely start like a
    pickle and do not parse as one are left out.
    """
    for prefix, inner in with_nested(archive):
        for name, member in inner.members.items():
            named = name.endswith(_PICKLE_NAMES)
            head = inner.peek(member, 4)
            if head == b"PK\x03\x04" or not (named or looks_pickled(head)):
                continue
            try:
                found = inner.pickle(name)
            except UnreadableArtifact as error:
                if named:
                    yield prefix + name, str(error)
                continue
            if named or not found.error:
                yield prefix + name, found


def looks_pickled(head: bytes) -> bool:
    """True for the first bytes of a binary pickle (protocol 2 to 5) or a textual GLOBAL/MARK."""
    if len(head) >= 3 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return True
    return len(head) >= 3 and head[:1] in b"c(]}" and head[1:3].isalpha()
