"""One thing the system takes away from the process, and whether it could be had here."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Status = Literal["applied", "partial", "unavailable", "off"]


@dataclasses.dataclass(frozen=True, slots=True)
class Protection:
    """`status` and, in `detail`, what it does or why it could not be had."""

    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"

    @classmethod
    def read_all(cls, told: object) -> dict[str, Protection]:
        """Protections as the process told them, before it had touched the artifact."""
        found: dict[str, Protection] = {}
        for name, item in told.items() if isinstance(told, dict) else ():
            status: Any = item.get("status") if isinstance(item, dict) else None
            if status in ("applied", "partial", "unavailable", "off"):
                found[str(name)] = cls(status, str(item.get("detail", "")))
        return found


Protections = dict[str, Protection]
