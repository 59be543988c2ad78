"""What a worker process is started with: command, environment, configuration, pipes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import site
import struct
import sys
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-P", "-m", "auditor.sandbox.worker"]

# Only what changes how libraries compute or are found. Never credentials, proxies or tokens.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_KEPT = (
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("CUDA_VISIBLE_DEVICES", *_THREADS),
)


def environment(home: str, threads: int | None) -> dict[str, str]:
    """The process's whole environment; `home` is its empty folder."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    if threads is not None:
        kept |= dict.fromkeys(_THREADS, str(threads))
    if site.ENABLE_USER_SITE:  # found through HOME otherwise, and HOME is another
        kept["PYTHONUSERBASE"] = site.getuserbase()
    return kept | {
        "PATH": os.defpath,
        "HOME": home,
        "TMPDIR": home,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        # torch.optim imports the compiler, which insists on a cache folder that exists.
        "TORCHINDUCTOR_CACHE_DIR": str(home),
        # joblib would try to create semaphores and warn about not being allowed to.
        "JOBLIB_MULTIPROCESSING": "0",
        # Threads that wait for each other give way: where another process has one of the cores,
        # those that spin keep it from its work, and a search takes three times as long.
        "OMP_WAIT_POLICY": "PASSIVE",
        # glibc would give every large tensor back to the kernel and fetch it, zeroed, anew: a third
        # of a gradient step. Limits hold all the same: what counts is memory in use at once.
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
        # onnxruntime's own builds report their use to its maker, on Linux and macOS as well since
        # its pull request 27379.
        "ORT_DISABLE_TELEMETRY": "1",
    }


def configuration(config: dict[str, Any]) -> bytes:
    """The first thing on the pipe, before numpy may be imported: length and JSON."""
    text = json.dumps(config, allow_nan=False).encode("ascii")
    return struct.pack("<I", len(text)) + text


def read_configuration(stream: io.FileIO) -> dict[str, Any]:
    """The other end of `configuration`; the parent is trusted."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = stream.read(count - len(data))
            if not chunk:
                sys.exit(0)  # the parent went away
            data += chunk
        return data

    (length,) = struct.unpack("<I", exactly(4))
    config: dict[str, Any] = json.loads(exactly(length))
    return config


def widen(*streams: io.RawIOBase) -> None:
    """Pipes of 1 MiB instead of 64 KiB: arrays travel in fewer turns. Linux only, best effort."""
    if sys.platform == "linux":
        import fcntl

        for stream in streams:
            with contextlib.suppress(OSError):
                fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
