"""What the result store keeps: the address of a result, and a model as its row tells it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

State = str
"""``pending``, ``done`` (a result is there), ``lost`` (its process died twice), ``failed`` (could
not be had; tried again next time), ``ignored`` (no model after all)."""


@dataclass(frozen=True, slots=True)
class Key:
    """The address of a result."""

    artifact: str
    samples: str
    configuration: str
    tool: str
    place: str = ""

    def as_tuple(self) -> tuple[str, ...]:
        """In the order of the table's columns."""
        return (self.artifact, self.samples, self.configuration, self.tool, self.place)


@dataclass(frozen=True, slots=True)
class Row:
    """A model as the store knows it. `files` are [name, stamp, sha256] of the model file first."""

    id: int
    uri: str
    origin: str
    path: str
    size: int
    stamp: str
    sure: bool
    files: tuple[tuple[str, str, str], ...]
    artifact: str
    state: State
    result: int | None
    kind: str
    reason: str
    about: str
    written: str


COLUMNS = (
    "id, uri, origin, path, size, stamp, sure, files, artifact, state, result, kind, reason, "
    "about, written"
)
"""Of the table ``models``, in the order of `Row`."""


def row_of(fields: Sequence[Any]) -> Row:
    """A fetched row, `COLUMNS` in order."""
    id_, uri, origin, path, size, stamp, sure, files, *rest = fields
    known = tuple((str(a), str(b), str(c)) for a, b, c in json.loads(files))
    return Row(id_, uri, origin, path, size, stamp, bool(sure), known, *rest)
