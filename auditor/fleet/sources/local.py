"""Folders, single files and patterns on this machine's disks."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from auditor.fleet.discovery import classify, is_file, stamp_of
from auditor.fleet.interface import Found, Known, Passed, Sighting, Source, SourceError, Unfound

_MAGIC = "*?["


class LocalSource(Source):
    """A folder is walked (hidden entries left out, links to folders not followed), a pattern with
    ``*``, ``?``, ``[`` or ``**`` is expanded, a file is taken as it is."""

    name: ClassVar[str] = "local"
    order: ClassVar[int] = 90

    @classmethod
    def accepts(cls, text: str) -> bool:
        """Whatever is no URL."""
        return "://" not in text or Path(text).exists()

    def find(self, known: Known) -> Iterator[Sighting]:
        """See `Source.find`. A missing folder or file is a `SourceError`, an empty one nothing."""
        place = Path(self.text).expanduser()
        if place.is_dir():
            yield from self._walk(place, known)
        elif os.path.lexists(place):
            yield self._one(place)
        elif any(letter in self.text for letter in _MAGIC):
            yield from self._expand(place, known)
        else:
            raise SourceError(
                f"{self.text} does not exist: name a folder, a file, a pattern or a list of them"
            )

    def fetch(self, path: str, folder: Path) -> Path:
        """The file itself; nothing is copied."""
        local = Path(path)
        if not is_file(local):
            raise SourceError(f"{local.name} is gone or is no regular file")
        return local

    def _walk(self, top: Path, known: Known) -> Iterator[Sighting]:
        failed: list[OSError] = []
        for folder, folders, files in os.walk(top, onerror=failed.append):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for error in failed:
                yield Unfound(str(error.filename), f"cannot be read: {error.strerror}")
            failed.clear()
            for name in sorted(files):
                if not name.startswith("."):
                    yield from self._look(Path(folder) / name, known)
        for error in failed:
            yield Unfound(str(error.filename), f"cannot be read: {error.strerror}")

    def _expand(self, pattern: Path, known: Known) -> Iterator[Sighting]:
        matched = False
        # Path.glob does not take a whole pattern with its root.
        for match in sorted(glob.iglob(str(pattern), recursive=True)):  # noqa: PTH207
            matched = True
            path = Path(match)
            if path.is_dir():
                continue  # its files match by themselves where ** asks for them
            yield from self._look(path, known)
        if not matched:
            raise SourceError(f"nothing matches {self.text}")

    def _look(self, path: Path, known: Known) -> Iterator[Sighting]:
        """A file met on the way: taken when it is a model, or calls itself one."""
        try:
            info = path.stat()
        except OSError as error:
            yield Unfound(uri_of(path), f"cannot be read: {error.strerror}")
            return
        if not is_file(path):
            return
        uri, stamp = uri_of(path), stamp_of(info)
        reason = "" if known(uri, stamp) else classify(path)
        if reason:
            yield Passed(uri, reason)
        else:
            yield Found(uri, self.text, str(path.absolute()), info.st_size, stamp)

    def _one(self, path: Path) -> Sighting:
        """A file somebody named is always accounted for."""
        try:
            info = path.stat()
        except OSError as error:
            return Unfound(uri_of(path), f"cannot be read: {error.strerror}")
        if not is_file(path):
            return Unfound(uri_of(path), "is no regular file")
        return Found(uri_of(path), self.text, str(path.absolute()), info.st_size, stamp_of(info))


def uri_of(path: Path) -> str:
    """The path that identifies a local file: absolute, links in it kept; encodable as UTF-8."""
    # Links are kept: two names of one file are two models with one content.
    shown = os.path.abspath(path)  # noqa: PTH100
    return shown.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
