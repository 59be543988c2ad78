"""Rows of a benchmark, shown as they come and written as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


def shown(rows: Iterable[R], path: Path | None) -> list[R]:
    """Print each row as it comes; then write all to `path`, if given: a line a row, a column a
    field. `rows` are of one kind and at least one."""
    done = []
    for row in rows:
        print(row, flush=True)
        done.append(row)
    if path is not None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(asdict(done[0])), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in done)
    return done
