"""A text file, one source a line: comments with ``#``, relative paths from the list's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from auditor.errors import AuditError
from auditor.fleet.interface import Found, Known, Sighting, Source, SourceError, Unfound
from auditor.fleet.redact import redacted

_NAMES = frozenset((".txt", ".list", ".lst"))
_LONGEST = 8192


class ListSource(Source):
    """``models.txt``. A line that is wrong is one entry of the index that says so, with its number;
    the other lines are audited."""

    name: ClassVar[str] = "list"
    order: ClassVar[int] = 40

    @classmethod
    def accepts(cls, text: str) -> bool:
        """An existing file called .txt, .list or .lst."""
        path = Path(text).expanduser()
        return path.suffix.lower() in _NAMES and path.is_file()

    def find(self, known: Known) -> Iterator[Sighting]:
        """See `Source.find`; the list is read a line at a time."""
        path = Path(self.text).expanduser()
        try:
            with path.open("rb") as stream:
                for number, raw in enumerate(stream, start=1):
                    yield from self._line(path, number, raw, known)
        except OSError as error:
            raise SourceError(f"the list {path.name} cannot be read: {error.strerror}") from error

    def fetch(self, path: str, folder: Path) -> Path:
        """Never asked: what it finds belongs to the sources of its lines."""
        raise SourceError(f"{path} is a line of a list, not a model")

    def _line(self, path: Path, number: int, raw: bytes, known: Known) -> Iterator[Sighting]:
        from auditor.fleet.sources.registry import open_source

        where = f"{path.name} line {number}"
        try:
            text = raw[:_LONGEST].decode("utf-8").strip().lstrip("\ufeff")
            if "\0" in text or len(raw) > _LONGEST:
                raise UnicodeError
        except UnicodeError:
            yield Unfound(where, f"{where} is no text: one source a line is wanted")
            return
        if not text or text.startswith("#"):
            return
        if "://" not in text and not text.startswith("models:/"):
            text = str(path.parent / Path(text).expanduser())
        try:
            source = open_source(text)
            if isinstance(source, ListSource):
                raise SourceError("a list within a list is not followed")
            count = 0
            for sighting in source.find(known):
                count += isinstance(sighting, Found | Unfound)
                yield sighting
            if not count:
                raise SourceError("there is no model in it")
        except AuditError as error:
            # The text may hold a signature: shown without.
            yield Unfound(
                f"{where}: {redacted(_short(text, path))}", f"{where}: {redacted(str(error))}"
            )


def _short(text: str, path: Path) -> str:
    prefix = f"{path.parent}/"
    return text.removeprefix(prefix)[:300]
