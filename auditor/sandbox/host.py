"""The parent's side of the sandbox: start a worker, ask it for things, survive its death.

Whatever the process sends is untrusted: frames are checked by `transport`, texts are for whoever
renders them to escape, and the parent alone writes files.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, cast

import numpy as np

from auditor.errors import SandboxError
from auditor.sandbox import spawn, transport
from auditor.sandbox.failure import WorkerDied, describe_exit, from_body
from auditor.sandbox.limits import Limits
from auditor.sandbox.nursery import warm_starter
from auditor.sandbox.protection import Protection
from auditor.sandbox.transport import Closed, Message, TransportError
from auditor.sandbox.watchdog import Watchdog, start_worker

_STDERR_TAIL = 16 << 10


class Worker:
    """One pre-warmed process for one artifact; a context manager.

    It starts at once and imports `prewarm` while the parent does other things; the first call
    waits for it. `readable` lists files and folders the process may read besides Python, its
    packages and the system's libraries; None leaves reading unlimited. `extra_ops` adds
    operations (name -> "module:function") to `ops.OPS`. Inside a `nursery.Nursery` the process is
    a fork of a warm one, else a new Python.

    `protections` (after `wait_ready` or the first call) says what was applied, by name.
    One thread at a time may call.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        prewarm: Sequence[str] = (),
        readable: Sequence[str | os.PathLike[str]] | None = None,
        extra_ops: Mapping[str, str] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.protections: dict[str, Protection] = {}
        self.startup: dict[str, Any] = {}
        self._op: str | None = None
        self._busy = False
        self._dead: SandboxError | None = None
        self._stderr = bytearray()
        self._home = tempfile.TemporaryDirectory(prefix=f"audit-worker-{os.getpid()}-")
        config = {
            "prewarm": list(prewarm),
            "readable": None if readable is None else [os.path.realpath(p) for p in readable],
            "extra_ops": dict(extra_ops or {}),
            "parent": os.getpid(),
            "cpu_seconds": self.limits.cpu_seconds,
            "open_files": self.limits.open_files,
            "message_bytes": self.limits.message_bytes,
            "gpu": self.limits.gpu,
        }
        self._watchdog = Watchdog(
            warm_starter(prewarm) or start_worker,
            cwd=self._home.name,
            env=spawn.environment(self._home.name, self.limits.threads),
            limits=self.limits,
        )
        try:
            self._process = self._watchdog.launch()
        except OSError as error:
            self._home.cleanup()
            raise SandboxError(f"the model's process could not be started: {error}") from error
        self._watchdog.arm(self.limits.startup, "while starting up")
        self._to_child = cast(io.RawIOBase, self._process.stdin)
        self._from_child = cast(io.RawIOBase, self._process.stdout)
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()
        spawn.widen(self._to_child, self._from_child)
        with contextlib.suppress(WorkerDied):  # the first call tells
            self._send([memoryview(spawn.configuration(config))])

    def wait_ready(self) -> None:
        """Wait until the process has imported its modules and locked itself in.

        Raises WorkerDied when it cannot.
        """
        if self._dead is not None:
            raise self._dead
        if self.protections:
            return
        with self._killed_unless_finished():
            message = self._receive()
            if message.kind != "ready":
                self._protocol_error("no word of being ready")
            told = message.body.pop("protections", {})
            self.protections = Protection.read_all(told) | self._watchdog.protections()
            self.startup = message.body
            programs = self.protections.get("no_programs")
            self._watchdog.alone = programs is not None and programs.status == "applied"
            self._watchdog.disarm()

    def call(
        self,
        op: str,
        params: Mapping[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        timeout: float | None = None,
    ) -> Iterator[Message]:
        """Yield events as they arrive, then one ``result`` or ``error`` message.

        The clock (`timeout` seconds, or the limits') runs from the call to its last message.
        Leaving the iterator early kills the process, for it would still be at work. Raises
        WorkerDied (reason timeout, memory, crash or protocol), for a request that may not travel
        TransportError, and RuntimeError for a second call before the first has ended.
        """
        self.wait_ready()
        if self._busy:
            raise RuntimeError(f"the worker is still running '{self._op}'")
        request = Message("call", {"op": op, "params": dict(params or {})}, dict(arrays or {}))
        parts = transport.encode(request, self.limits.message_bytes)
        self._op, self._busy = op, True
        seconds = self.limits.timeout if timeout is None else timeout
        self._watchdog.arm(seconds, "limit --timeout")
        with self._killed_unless_finished():
            self._send(parts)
            while True:
                message = self._receive()
                if message.kind == "event":
                    yield message
                    continue
                if message.kind not in ("result", "error"):
                    self._protocol_error(f"an unexpected '{message.kind}'")
                self._watchdog.disarm()
                self._busy = False
                break
        yield message

    def result(
        self,
        op: str,
        params: Mapping[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        timeout: float | None = None,
        on_event: Callable[[Message], None] | None = None,
    ) -> Message:
        """Run `call` to its end and return the result message.

        Raises what `call` raises, and for an error message the AuditError it names (an
        OperationFailed for exceptions that are not ours).
        """
        last: Message | None = None
        for message in self.call(op, params, arrays, timeout=timeout):
            if message.kind == "event" and on_event is not None:
                on_event(message)
            last = message
        assert last is not None  # call() ends with a result, an error or an exception
        if last.kind == "error":
            raise from_body(op, last.body)
        return last

    @property
    def alive(self) -> bool:
        """Whether another call can be made."""
        return self._dead is None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def peak_memory(self) -> int:
        """The largest resident size seen, in bytes."""
        return self._watchdog.peak

    @property
    def stderr_tail(self) -> str:
        """The end of what the process printed (untrusted text, for ``--debug``)."""
        return bytes(self._stderr).decode("utf-8", "replace")

    def close(self) -> None:
        """End the process and everything it started; may be called twice."""
        if self._dead is None:
            self._dead = WorkerDied("the worker was closed", reason="crash", op=None)
        self._watchdog.kill()
        self._drain.join(timeout=2)
        for stream in (self._to_child, self._from_child, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._home.cleanup()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, parts: list[memoryview]) -> None:
        try:
            for part in parts:
                rest = part
                while len(rest):
                    rest = rest[self._to_child.write(rest) or 0 :]
        except OSError:
            self._raise_death()

    def _receive(self) -> Message:
        try:
            return transport.receive(self._from_child, self.limits.message_bytes)
        except Closed:
            self._raise_death()
        except (TransportError, MemoryError) as error:
            if self._watchdog.stopped_by is not None or self._ended_soon():
                self._raise_death()
            self._protocol_error(str(error))
        except OSError:
            self._raise_death()

    def _ended_soon(self) -> bool:
        """A frame cut in two is a death in the middle of a sentence, not a lie."""
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            if self._process.poll() is not None:
                return True
            time.sleep(0.01)
        return False

    def _protocol_error(self, detail: str) -> NoReturn:
        self._watchdog.kill()
        self._die(
            "protocol", f"the model's process sent something unreadable ({detail}); it was stopped"
        )

    def _raise_death(self) -> NoReturn:
        if not self._ended_soon():
            self._protocol_error("it closed its pipe and went on")
        self._watchdog.finish()
        if self._watchdog.stopped_by is not None:
            self._die(*self._watchdog.stopped_by)
        self._die(*describe_exit(self._process.returncode or 0, self._op, self.limits.cpu_seconds))

    def _die(self, reason: Any, sentence: str) -> NoReturn:
        self._drain.join(timeout=1)
        self._dead = WorkerDied(sentence, reason=reason, op=self._op, stderr=self.stderr_tail)
        raise self._dead

    @contextlib.contextmanager
    def _killed_unless_finished(self) -> Iterator[None]:
        """Kill the process when its call is left in any way but its end (also by Ctrl-C)."""
        try:
            yield
        except BaseException:
            self._watchdog.kill()
            if self._dead is None:
                self._dead = WorkerDied(
                    f"the worker was stopped while running '{self._op}'",
                    reason="crash",
                    op=self._op,
                )
            raise

    def _drain_stderr(self) -> None:
        stream = cast(io.RawIOBase, self._process.stderr)
        with contextlib.suppress(OSError, ValueError):
            while chunk := stream.read(4096):
                self._stderr += chunk
                del self._stderr[:-_STDERR_TAIL]
