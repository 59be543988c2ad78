"""A full disk is one sentence, wherever it is met; what is done already is kept."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from auditor.errors import AuditError, UsageError

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class FullDisk(AuditError):
    """No space left under ``--out``."""

    kind = "full-disk"


@contextlib.contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Turn what the system, SQLite or our own writer says of a full disk into `FullDisk`."""
    try:
        yield
    except (OSError, sqlite3.Error, UsageError) as error:
        if is_full(error):
            raise FullDisk(
                f"no space left in {folder}: every model that was finished is kept; free some "
                "space and run the same command again, it goes on from there"
            ) from error
        if isinstance(error, sqlite3.Error):
            raise AuditError(f"the result store in {folder} failed: {error}") from error
        if isinstance(error, OSError):
            raise UsageError(f"cannot work in {folder}: {error.strerror or error}") from error
        raise


def is_full(error: BaseException | None) -> bool:
    """Whether `error`, or what caused it, is about space."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, sqlite3.Error) and "is full" in str(error):
            return True
        error = error.__cause__
    return False
