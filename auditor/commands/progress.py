"""Progress on standard error: a spinner on a terminal, nothing elsewhere."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status

WORDS = {
    "file": "reading the file",
    "loading": "loading the model and inferring its preprocessing",
    "sanitizing": "sanitizing and auditing the result",
}


class Steps:
    """A context manager; `tell` names what starts now."""

    def __init__(self, name: str, *, quiet: bool, no_color: bool) -> None:
        self._name = escape("".join(c if c.isprintable() else "?" for c in name))
        self._console = Console(stderr=True, no_color=no_color or None)
        self._status: Status | None = None
        if not quiet and self._console.is_terminal:
            self._status = self._console.status(f"{self._name}: starting")

    def tell(self, step: str) -> None:
        """Show `step`, a key of `WORDS` or a check's name."""
        if self._status is not None:
            self._status.update(f"{self._name}: {escape(WORDS.get(step, step))}")

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()
