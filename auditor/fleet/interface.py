"""What the rooms of a fleet tell each other: plain frozen records, all of them picklable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from auditor.errors import AuditError


class SourceError(AuditError):
    """A place that models were to come from cannot be reached or read."""

    kind = "source"


@dataclass(frozen=True, slots=True)
class Found:
    """One model, not opened yet.

    `uri` identifies and shows it: no credentials in it. `origin` (a source as the user wrote it)
    and `path` (in the words of that source) are what a worker needs to fetch it. `stamp` changes
    when the content may have (size, time and inode of a file, an object's etag); empty when the
    source cannot tell. `sure` is False when only the whole file can tell whether it is a model.
    """

    uri: str
    origin: str
    path: str
    size: int = 0
    stamp: str = ""
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Unfound:
    """Something named that is not there or cannot be read: accounted for, never dropped."""

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Passed:
    """A file that is no model; counted, not listed."""

    uri: str
    reason: str


Sighting: TypeAlias = Found | Unfound | Passed
Known: TypeAlias = Callable[[str, str], bool]
"""(uri, stamp) -> whether this very file was recognised as a model before."""


class Source(ABC):
    """A place models come from. Register one under the entry point group ``audit.sources``.

    `open` gets what the user wrote. Credentials come from the environment the libraries of that
    place look at; nothing here stores them.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 50
    """Sources are asked in this order whether a text is theirs."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    @abstractmethod
    def accepts(cls, text: str) -> bool:
        """Whether `text` names a place of this kind. Looks at the text, and at local files only."""

    @abstractmethod
    def find(self, known: Known) -> Iterator[Sighting]:
        """Every model in it, one at a time, in an order that is the same each time.

        Raises `SourceError` when the place itself cannot be reached or read.
        """

    @abstractmethod
    def fetch(self, path: str, folder: Path) -> Path:
        """A local file with the content of `path`; downloaded into `folder` if it has to be.

        Raises `SourceError`.
        """

    def fetch_beside(self, path: str, name: str, folder: Path) -> bool:
        """Fetch `name`, a relative path beside `path`, into `folder`; False when it is not there.

        Called only for what was fetched into `folder`. Raises `SourceError`.
        """
        return False
