"""What libraries expect of a process, given to them without writing files or starting programs."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import tempfile
from pathlib import Path

# The names glibc and gcc have used on every system Python still runs on.
_LINUX_NAMES = {
    "c": "libc.so.6",
    "dl": "libdl.so.2",
    "m": "libm.so.6",
    "pthread": "libpthread.so.0",
    "rt": "librt.so.1",
    "util": "libutil.so.1",
    "stdc++": "libstdc++.so.6",
    "gcc_s": "libgcc_s.so.1",
    "gomp": "libgomp.so.1",
}


def to_a_locked_process() -> None:
    """Answer in advance what would otherwise be asked of the disk or of other programs.

    - The folder for temporary files: torch asks on import, Python finds it by writing a file.
    - ``ctypes.util.find_library`` starts ldconfig and gcc and writes a file (torch's CUDA helper
      calls it on import); here the loader is asked instead.
    """
    tempfile.tempdir = str(Path.cwd())
    if sys.platform == "linux":
        ctypes.util.find_library = _find_library


def _find_library(name: str) -> str | None:
    """The soname of a library the loader can find, or None."""
    for candidate in (_LINUX_NAMES.get(name), f"lib{name}.so"):
        if candidate is None:
            continue
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return candidate
    return None
