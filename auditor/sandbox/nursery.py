"""The parent's side of a zygote: ask for a process, and treat it like one of `subprocess`.

While a `Nursery` is entered, every `host.Worker` started in its context is a fork.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from auditor.errors import SandboxError
from auditor.sandbox import spawn
from auditor.sandbox.watchdog import Process, Starter
from auditor.sandbox.zygote import MESSAGE

STARTUP_SECONDS = 120.0


class Forked:
    """A process the zygote forked, with the part of `subprocess.Popen` that a worker needs.

    `returncode` is None while it runs; negative for a signal, as Popen has it. When the zygote
    itself is gone, so is the process (the kernel saw to it), and the code is that of a kill.
    """

    def __init__(self, zygote: Zygote, pid: int, pipes: list[int], status: int) -> None:
        self._zygote, self._status = zygote, status
        self._lock = threading.Lock()
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = io.FileIO(pipes[0], "w")
        self.stdout = io.FileIO(pipes[1], "r")
        self.stderr = io.FileIO(pipes[2], "r")

    def poll(self) -> int | None:
        """The exit code, or None."""
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], 0)[0]:
                word = os.read(self._status, 4)
                os.close(self._status)
                whole = len(word) == 4
                self.returncode = struct.unpack("<i", word)[0] if whole else -signal.SIGKILL
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. Raises ``subprocess.TimeoutExpired``."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("zygote", timeout or 0.0)
            time.sleep(0.002)
        return code

    def kill_group(self) -> None:
        """End it and its process group; what is left of the group of one that has ended is ended
        by the zygote when it collects it."""
        if self.poll() is None:
            self._zygote.kill(self.pid)


class Zygote:
    """One warm process. Raises `SandboxError` when it cannot be started or stops answering."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._home = tempfile.TemporaryDirectory(prefix=f"audit-zygote-{os.getpid()}-")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        arguments = json.dumps([os.getpid(), *modules])
        command = [sys.executable, "-P", "-m", "auditor.sandbox.zygote", str(theirs.fileno())]
        started = threading.Event()
        self._closed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        failures: list[OSError] = []

        def keep() -> None:
            # The parent-death signal is tied to the thread that starts the process: it must live.
            try:
                self._process = subprocess.Popen(
                    [*command, arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=self._home.name,
                    env=spawn.environment(self._home.name, 1),  # one thread: it forks
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                failures.append(error)
            started.set()
            self._closed.wait()
            if self._process is not None:
                self._process.kill()
                self._process.wait()

        self._keeper = threading.Thread(target=keep, name="audit-zygote", daemon=True)
        self._keeper.start()
        started.wait()
        theirs.close()
        if failures:
            self.close()
            raise SandboxError(f"the warm process could not be started: {failures[0]}")
        self._control.settimeout(STARTUP_SECONDS)
        ready = self._answer()
        self.threads = int(ready.get("ready", 0))
        self.sound = bool(ready.get("dies")) and self.threads == 1

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process is not None and self._process.poll() is None

    def fork(self, cwd: str, env: dict[str, str]) -> Forked:
        """A fresh process in `cwd` with exactly `env`."""
        pairs = [os.pipe() for _ in range(4)]
        (in_r, in_w), (out_r, out_w), (err_r, err_w), (status_r, status_w) = pairs
        theirs, ours = [in_r, out_w, err_w, status_w], [in_w, out_r, err_r]
        request = json.dumps({"cwd": cwd, "env": env}).encode("ascii")
        try:
            if len(request) > MESSAGE:
                raise SandboxError("the environment is too large for the warm process")
            with self._lock:
                socket.send_fds(self._control, [request], theirs)
                pid = int(self._answer()["pid"])
        except (OSError, SandboxError, KeyError):
            for end in (*ours, status_r):
                os.close(end)
            raise
        finally:
            for end in theirs:
                os.close(end)
        return Forked(self, pid, ours, status_r)

    def kill(self, pid: int) -> None:
        """Ask it to kill one of its children."""
        with contextlib.suppress(OSError), self._lock:
            self._control.send(json.dumps({"kill": pid}).encode("ascii"))

    def close(self) -> None:
        """End it and all its children."""
        self._closed.set()
        self._keeper.join(timeout=5)
        self._control.close()
        with contextlib.suppress(OSError):
            self._home.cleanup()

    def _answer(self) -> dict[str, int]:
        try:
            text = self._control.recv(MESSAGE)
        except OSError as error:
            raise SandboxError(f"the warm process does not answer: {error}") from error
        if not text:
            raise SandboxError("the warm process ended")
        answer: dict[str, int] = json.loads(text)
        return answer


class Nursery:
    """Zygotes by what they have imported, started when first needed. A context manager.

    `shelves` are sets of modules, lightest first; a worker gets a fork of the first that holds all
    it wants. While the nursery is entered, every `host.Worker` of this context uses it. Linux only,
    and only where the zygote runs one thread and is sure to die with its parent; where that does
    not hold, or no shelf fits, workers are started from scratch as ever.
    """

    def __init__(self, shelves: Sequence[Sequence[str]]) -> None:
        self._shelves = [tuple(shelf) for shelf in shelves]
        self._zygotes: dict[tuple[str, ...], Zygote | None] = {}
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()

    def starter(self, prewarm: Sequence[str]) -> Starter | None:
        """What starts a process that has `prewarm` imported, or None."""
        wanted = set(prewarm)
        shelf = next((s for s in self._shelves if wanted <= set(s)), None)
        if sys.platform != "linux" or shelf is None:
            return None
        with self._lock:
            zygote = self._zygotes.get(shelf)
            if shelf not in self._zygotes or (zygote is not None and not zygote.alive):
                zygote = self._zygotes[shelf] = _sound_zygote(shelf)
        if zygote is None:
            return None
        warm = zygote

        def start(cwd: str, env: dict[str, str]) -> Process:
            try:
                return warm.fork(cwd, env)
            except (SandboxError, KeyError, ValueError) as error:
                raise OSError(str(error)) from error

        return start

    def close(self) -> None:
        """End all zygotes."""
        for zygote in self._zygotes.values():
            if zygote is not None:
                zygote.close()
        self._zygotes.clear()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Workers started in here are forks; the zygotes stay for the next time."""
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)

    def __enter__(self) -> Nursery:
        self._stack.enter_context(self.active())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self.close()


_ACTIVE: ContextVar[Nursery | None] = ContextVar("nursery", default=None)


def warm_starter(prewarm: Sequence[str]) -> Starter | None:
    """The starter of the nursery entered in this context, or None."""
    nursery = _ACTIVE.get()
    return None if nursery is None else nursery.starter(prewarm)


def _sound_zygote(modules: Sequence[str]) -> Zygote | None:
    try:
        zygote = Zygote(modules)
    except SandboxError:
        return None
    if zygote.sound:
        return zygote
    zygote.close()
    return None
