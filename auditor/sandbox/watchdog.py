"""A thread in the parent that starts the process, watches its memory and its clock, and kills it.

An address-space limit would break torch, so memory is the resident size, looked at every 20 ms.
The same thread starts the process: Linux sends the parent-death signal when the *thread* that
forked ends, and this one lives as long as the process does.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO, Protocol, TypeAlias

import psutil

from auditor.sandbox import spawn
from auditor.sandbox.failure import Reason
from auditor.sandbox.limits import Limits, readable_bytes
from auditor.sandbox.protection import Protection

INTERVAL = 0.02
_CHILDREN_EVERY = 10


class Process(Protocol):
    """What is needed of a started process: `subprocess.Popen` and `nursery.Forked` have it."""

    pid: int
    returncode: int | None

    @property
    def stdin(self) -> IO[bytes] | io.RawIOBase | None:
        """Unbuffered."""

    @property
    def stdout(self) -> IO[bytes] | io.RawIOBase | None:
        """Unbuffered."""

    @property
    def stderr(self) -> IO[bytes] | io.RawIOBase | None:
        """Unbuffered."""

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def kill_group(self) -> None:
        """SIGKILL to it and to what it started in its group; nothing happens when it is gone."""


Starter: TypeAlias = Callable[[str, dict[str, str]], Process]
"""(folder, environment) -> the process, in a session of its own. Raises OSError."""


class Started(subprocess.Popen[bytes]):
    """A process started from scratch, leading a group of its own."""

    def kill_group(self) -> None:
        """See `Process.kill_group`."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.poll() is None:
            with contextlib.suppress(OSError):
                self.kill()


def start_worker(cwd: str, env: dict[str, str]) -> Process:
    """A new Python that runs `auditor.sandbox.worker`."""
    return Started(
        spawn.COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=cwd,
        env=env,
        # Ctrl-C is for the parent, which then kills the group.
        start_new_session=True,
    )


class Watchdog:
    """`launch` starts the process; `arm` and `disarm` its clock; `kill` ends it and waits.

    `stopped_by` is (reason, sentence) once the watchdog itself has killed the process; `peak` the
    largest resident size seen, in bytes.
    """

    def __init__(self, start: Starter, *, cwd: str, env: dict[str, str], limits: Limits):
        self._thread = threading.Thread(target=self._run, name="audit-watchdog", daemon=True)
        self._start, self._cwd, self._env, self._limits = start, cwd, env, limits
        self._launched = threading.Event()
        self._wake = threading.Event()
        self._error: OSError | None = None
        self._deadline: tuple[float, float, str] | None = None
        self._process: Process | None = None
        self.stopped_by: tuple[Reason, str] | None = None
        self.peak = 0
        # Set once the process is known to be unable to start others: spares looking for them.
        self.alone = False

    def launch(self) -> Process:
        """Start the thread and the process. Raises OSError when it cannot be started."""
        self._thread.start()
        self._launched.wait()
        if self._process is None:
            raise self._error or OSError("no process")
        return self._process

    def arm(self, seconds: float, limit: str) -> None:
        """Allow `seconds` from now; `limit` says in the sentence which limit that is."""
        self._deadline = (time.monotonic() + seconds, seconds, limit)

    def disarm(self) -> None:
        """Stop the clock: the process may idle."""
        self._deadline = None

    def kill(self) -> None:
        """Kill the process group and wait until the process is reaped."""
        if self._process is not None:
            self._kill_all(self._process)
            self.finish()

    def finish(self) -> None:
        """Wait until the thread has seen the end of the process."""
        self._wake.set()
        self._thread.join(timeout=5)

    def protections(self) -> dict[str, Protection]:
        """What this thread itself enforces."""
        memory = readable_bytes(self._limits.memory)
        return {
            "memory": Protection("applied", f"killed above {memory} of resident memory"),
            "time": Protection("applied", f"killed after {self._limits.timeout:g} s in one call"),
        }

    def _run(self) -> None:
        try:
            self._process = self._start(self._cwd, self._env)
        except OSError as error:
            self._error = error
        finally:
            self._launched.set()
        if self._process is not None:
            self._watch(self._process)

    def _watch(self, process: Process) -> None:
        turn = 0
        watched = psutil.Process(process.pid)  # not reaped before poll(), so it exists
        while process.poll() is None:
            look = not self.alone and turn % _CHILDREN_EVERY == 0
            used = self._resident(watched, with_children=look)
            self.peak = max(self.peak, used)
            deadline = self._deadline
            if used > self._limits.memory:
                allowed = readable_bytes(self._limits.memory)
                sentence = f"the model's process needed more than {allowed} (limit --memory)"
                self._kill_for(process, "memory", sentence)
            elif deadline is not None and time.monotonic() > deadline[0]:
                _, seconds, limit = deadline
                sentence = f"the model's process was stopped after {seconds:g} s ({limit})"
                self._kill_for(process, "timeout", sentence)
            turn += 1
            self._wake.wait(INTERVAL)
            if self._wake.is_set() and process.poll() is None:
                time.sleep(0.002)
        if not self.alone:  # what it may have started lives on in its process group
            process.kill_group()

    def _kill_for(self, process: Process, reason: Reason, sentence: str) -> None:
        if process.poll() is None:
            self.stopped_by = self.stopped_by or (reason, sentence)
            self._kill_all(process)

    @staticmethod
    def _kill_all(process: Process) -> None:
        if process.poll() is None:
            process.kill_group()

    @staticmethod
    def _resident(process: psutil.Process, *, with_children: bool) -> int:
        """Resident bytes of the process, now and then with its children's."""
        try:
            used = int(process.memory_info().rss)
            if with_children:
                for child in process.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        used += int(child.memory_info().rss)
        except psutil.Error:
            return 0
        return used
