"""How many workers this machine bears: its cores, and its memory at the limit a model may use."""

from __future__ import annotations

from pathlib import Path

_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
WORKER_BYTES = 700 << 20
"""What a worker needs beside the model's process: itself and its warm zygotes (measured)."""


def local_workers(memory: int) -> int:
    """At least one; each may have a model's process of `memory` bytes at once."""
    import joblib

    return max(1, min(int(joblib.cpu_count()), free_memory() // (memory + WORKER_BYTES)))


def free_memory() -> int:
    """Bytes that can be had: of the machine, or of the container when that is less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for path in _LIMITS:
        try:
            free = min(free, int(path.read_text()))
        except (OSError, ValueError):
            continue  # "max": no limit
    return free
