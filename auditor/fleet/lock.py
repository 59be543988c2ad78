"""One driver a folder: a lock the system gives back however the driver ends."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import IO, Self

from auditor.errors import UsageError

NAME = "fleet.lock"


class FolderLock:
    """A context manager. Raises `UsageError` when another process holds it, or for a folder that
    cannot be written. The file stays; only the lock on it counts."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._stream: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write into {self._path.parent} ({error.strerror}): choose another --out"
            ) from error
        try:
            _lock(self._stream)
        except OSError:
            holder = self._holder()
            self._stream.close()
            raise UsageError(
                f"another fleet run{holder} is writing into {self._path.parent}: wait until it has "
                "ended, or choose another --out"
            ) from None
        self._stream.seek(0)
        self._stream.truncate()
        json.dump({"pid": os.getpid(), "host": platform.node()}, self._stream)
        self._stream.flush()
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _holder(self) -> str:
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
            return f" (process {int(told['pid'])} on {str(told['host'])[:60]})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def _lock(stream: IO[str]) -> None:
    """Raises OSError when somebody else has it."""
    import fcntl

    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
