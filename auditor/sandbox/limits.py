"""How much of the machine a model's process may use."""

from __future__ import annotations

import dataclasses

MIB = 1 << 20
GIB = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one worker process.

    memory: resident bytes of the process (and of its children), watched from the parent.
    timeout: wall-clock seconds for one call, unless the call names its own.
    startup: wall-clock seconds for starting up and importing the pre-warmed modules.
    cpu_seconds: processor seconds over the process's life (a backstop set in the kernel).
    open_files: file descriptors.
    message_bytes: bytes of arrays in one message, either way.
    threads: what the numeric libraries are told to use; None leaves the environment's setting.
    gpu: keep the devices of an NVIDIA card usable (weakens the file limits to those devices).
    """

    memory: int = 4 * GIB
    timeout: float = 120.0
    startup: float = 120.0
    cpu_seconds: int = 3600
    open_files: int = 512
    message_bytes: int = 1 * GIB
    threads: int | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        for field in ("memory", "timeout", "startup", "cpu_seconds", "open_files", "message_bytes"):
            if not getattr(self, field) > 0:
                raise ValueError(f"Limits.{field} must be above zero")


def readable_bytes(count: int) -> str:
    """Bytes in the unit a person would pick: ``2.0 GiB``, ``300 MiB``."""
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.0f} MiB"
