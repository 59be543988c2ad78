"""What happened, one JSON object a line, in ``fleet.log.jsonl``: appended to, without secrets."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import IO, Any

from auditor.fleet.redact import redacted

NAME = "fleet.log.jsonl"


class Log:
    """Keys of every line: ``time`` (UTC), ``event``; of most: ``uri``, ``verdict``, ``seconds``."""

    def __init__(self, folder: Path) -> None:
        self._stream: IO[str] = (folder / NAME).open("a", encoding="utf-8")

    def write(self, event: str, **facts: Any) -> None:
        """One line, flushed, so that a killed run leaves whole lines."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "event": event, **{k: _clean(v) for k, v in facts.items()}}
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """After the last line."""
        self._stream.close()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
