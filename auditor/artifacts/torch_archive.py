"""Torch zip archives as data: TorchScript, torch.save files and .pt2, read without torch.

Nothing of the archive is imported, called or executed. Members keep their place in the file, so
that weights can be rewritten in place (`TorchArchive.member_data_span`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from auditor.artifacts.torch_unpickle import Call, Global, Persistent, Pickle, interpret_pickle
from auditor.artifacts.torch_zip import (
    STORED,
    Directory,
    Member,
    Problem,
    read_directory,
    read_member,
    read_span,
)
from auditor.errors import UnreadableArtifact

__all__ = [
    "Call",
    "Global",
    "Member",
    "Persistent",
    "Pickle",
    "Problem",
    "TorchArchive",
    "interpret_pickle",
    "is_zip",
    "open_archive",
]

MAX_CODE = 16 << 20
MAX_JSON = 256 << 20
MAX_PICKLE = 64 << 20


class TorchArchive:
    """An open archive: structure read, members read on demand. Create with `open_archive`.

    Member names below are relative to `root`, the folder all members of a torch archive share
    ('' in the flat archives torch.export wrote before torch 2.8).
    """

    def __init__(self, name: str, opener: Callable[[], BinaryIO], directory: Directory) -> None:
        self.name = name
        self._opener = opener
        self.all_members = directory.members
        self.size = directory.size
        first = directory.members[0].name
        self.root = first.partition("/")[0] if "/" in first else ""
        prefix = self.root + "/" if self.root else ""
        self.members: dict[str, Member] = {}
        problems = list(directory.problems)
        for member in directory.members:
            problems.extend(_name_problems(member))
            if not member.name.startswith(prefix):
                problems.append(
                    Problem("outside", member.name, f"it stands outside the folder {self.root!r}")
                )
                continue
            self.members.setdefault(member.name[len(prefix) :], member)
        problems.extend(_duplicates(directory.members))
        self.problems = tuple(problems)

    def read(self, name: str, limit: int = MAX_JSON) -> bytes:
        """Bytes of one member, decompressed and checksum verified.

        Raises `UnreadableArtifact` when missing, larger than `limit`, encrypted or broken.
        """
        if name not in self.members:
            raise UnreadableArtifact(f"{self.name}: archive member {name!r} is missing")
        return read_member(self._opener, self.members[name], limit)

    def peek(self, member: Member, limit: int) -> bytes:
        """The first `limit` bytes of any member (also outside the root); b'' when unreadable."""
        if member.data_offset < 0 or member.encrypted:
            return b""
        try:
            with self._opener() as stream:
                return read_span(stream, member, min(limit, member.size))
        except UnreadableArtifact:
            return b""

    def read_at(self, offset: int, length: int) -> bytes:
        """Raw bytes of the archive file."""
        with self._opener() as stream:
            stream.seek(offset)
            return stream.read(length)

    def member_data_span(self, name: str) -> tuple[int, int]:
        """(file offset, length) of the member's bytes, for editing in place.

        Raises `UnreadableArtifact` when the member is missing, compressed or encrypted.
        """
        member = self.members.get(name)
        if member is None:
            raise UnreadableArtifact(f"{self.name}: archive member {name!r} is missing")
        if member.method != STORED or member.encrypted or member.data_offset < 0:
            raise UnreadableArtifact(f"{self.name}: member {name!r} is not stored plainly")
        return member.data_offset, member.size

    @cached_property
    def kind(self) -> str:
        """torchscript, pt2, torchscript-legacy, package (torch.package), save or unknown."""
        names = self.members
        code = any(name.startswith("code/") and name.endswith(".py") for name in names)
        if "archive_format" in names or "serialized_exported_program.json" in names:
            return "pt2"
        if any(n.startswith("models/") and n.endswith(".json") for n in names):
            return "pt2"
        if "constants.pkl" in names or (code and "data.pkl" in names):
            return "torchscript"
        if "model.json" in names:
            return "torchscript-legacy"
        if ".data/extern_modules" in names:
            return "package"
        return "save" if "data.pkl" in names else "unknown"

    def _word(self, *names: str) -> str:
        for name in names:
            if name in self.members:
                return self.read(name, 4096).decode("utf-8", "replace").strip()[:100]
        return ""

    @cached_property
    def version(self) -> str:
        """Archive version, '' when absent."""
        return self._word("version", "archive_version", ".data/version")

    @cached_property
    def byteorder(self) -> str:
        """``little`` (also when absent) or ``big``."""
        return self._word("byteorder") or "little"

    def code(self) -> dict[str, str]:
        """TorchScript sources by member name (``code/**/*.py``), within `MAX_CODE` bytes in all.

        Raises `UnreadableArtifact` when there is more or a source cannot be read.
        """
        sources: dict[str, str] = {}
        left = MAX_CODE
        for name in sorted(self.members):
            if name.startswith("code/") and name.endswith(".py"):
                data = self.read(name, left)
                left -= len(data)
                sources[name] = data.decode("utf-8", "replace")
        return sources

    def pickle(self, name: str) -> Pickle:
        """The member interpreted as a pickle. Raises `UnreadableArtifact` like `read`."""
        return interpret_pickle(self.read(name, MAX_PICKLE))

    def nested(self, name: str) -> TorchArchive:
        """A torch archive inside this one. Raises `UnreadableArtifact`."""
        data = self.read(name)
        where = f"{self.name}:{name}"
        return TorchArchive(where, lambda: io.BytesIO(data), read_directory(io.BytesIO(data)))


def is_zip(path: Path) -> bool:
    """True when the file starts with a zip member, as every torch archive does."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def open_archive(path: Path) -> TorchArchive:
    """Read the structure of the archive at `path`.

    Raises `UnreadableArtifact` when it is missing, no zip, truncated or empty.
    """
    try:
        with path.open("rb") as stream:
            directory = read_directory(stream)
    except OSError as error:
        raise UnreadableArtifact(f"{path}: {error.strerror or error}") from None
    except UnreadableArtifact as error:
        raise UnreadableArtifact(f"{path}: {error}") from None
    return TorchArchive(str(path), lambda: path.open("rb"), directory)


def _name_problems(member: Member) -> Iterator[Problem]:
    name = member.name
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        yield Problem("traversal", name, "its name climbs out of the folder")
    if name.startswith(("/", "\\")) or name[1:2] == ":":
        yield Problem("absolute", name, "its name is an absolute path")
    if "\\" in name or not name.isprintable() or not name:
        yield Problem("name", name, "its name has control characters or backslashes, or is empty")
    if member.is_symlink:
        yield Problem("symlink", name, "it is a symbolic link")
    if member.encrypted:
        yield Problem("encrypted", name, "it is encrypted and cannot be inspected")
    if member.method not in (0, 8):
        yield Problem("method", name, f"it is packed by unknown method {member.method}")


def _duplicates(members: tuple[Member, ...]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for member in members:
        key = member.name.lower()  # torch's reader looks names up without regard to case
        if key in seen:
            yield Problem("duplicate", member.name, f"it has the name of {seen[key]!r}")
        seen[key] = member.name
