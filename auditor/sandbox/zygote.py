"""A warm process that has imported the libraries once and forks a fresh process for each model.

Importing torch and onnx costs more than most audits; a fork of a process that has them costs
milliseconds. Every model still gets a process of its own with its own limits: the fork happens
before anything of a model is read, and `worker.main` locks the new process in exactly as one that
was started from scratch (its folder, its limits, Landlock, name space, system call filter). What is
shared is what was true before any model came: the libraries in memory, copied on write, and their
addresses (one address layout per zygote, as in Android's process of that name).

``python -P -m auditor.sandbox.zygote FD``, started by `nursery.Zygote` only. One thread; it reads
one line of JSON per request from the socket at FD, with the new process's ends of three pipes and
of a status pipe attached, and never reads anything a model wrote. When the socket closes it ends,
and the kernel ends its children with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

from auditor.sandbox import adapt, protect, worker

DESCRIPTORS = 4
"""Per request: the child's standard input, output and error, and the end status is written to."""

MESSAGE = 1 << 16


class Nest:
    """The zygote's loop: fork on request, kill on request, tell how each child ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status: dict[int, int] = {}  # pid -> descriptor the exit status goes to
        self._bell, self._rope = os.pipe()
        for end in (self._bell, self._rope):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._rope, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def serve(self) -> None:
        """Until the other end of the socket closes."""
        while True:
            control = self._control.fileno()
            ready, _, _ = select.select([control, self._bell], [], [])
            if self._bell in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 512)
                self._reap()
            if control in ready:
                text, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE, DESCRIPTORS)
                if not text:
                    return
                request = json.loads(text)
                if "kill" in request:
                    self._kill(int(request["kill"]))
                elif len(descriptors) == DESCRIPTORS:
                    self._fork(request, descriptors)

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> None:
        *pipes, status = descriptors
        pid = os.fork()
        if pid == 0:
            os.close(status)
            self._become_worker(request, pipes)
        for pipe in pipes:
            os.close(pipe)
        self._status[pid] = status
        self._control.send(json.dumps({"pid": pid}).encode("ascii"))

    def _become_worker(self, request: dict[str, Any], pipes: list[int]) -> NoReturn:
        """In the new process: drop all that is the zygote's, then be a worker like any other."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._control.fileno(), self._bell, self._rope):
                os.close(descriptor)
            for descriptor in self._status.values():
                os.close(descriptor)
            os.setsid()
            for target, pipe in enumerate(pipes):
                os.dup2(pipe, target)
                os.close(pipe)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            worker.main(parent=os.getppid())
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def _kill(self, pid: int) -> None:
        """A child that is not reaped yet: its number cannot belong to anybody else."""
        if pid in self._status:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self._status):
            done, code = os.waitpid(pid, os.WNOHANG)
            if done:
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)
                status = self._status.pop(pid)
                with contextlib.suppress(OSError):
                    os.write(status, struct.pack("<i", os.waitstatus_to_exitcode(code)))
                os.close(status)


def main() -> None:
    """Import what the command line names, say so, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    parent, *modules = json.loads(sys.argv[2])
    adapt.to_a_locked_process()
    told = {"dies": False}
    with contextlib.suppress(OSError):
        protect.die_with(parent)
        told["dies"] = True
    for name in modules:
        # One that is missing is for the operation to notice, as in a worker.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # objects of the libraries are never visited again: fewer pages are copied
    control.send(json.dumps({"ready": protect.count_threads(), **told}).encode("ascii"))
    Nest(control).serve()


if __name__ == "__main__":
    main()
