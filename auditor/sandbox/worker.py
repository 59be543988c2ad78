"""The process itself: lock in, import, then answer calls until the pipe closes.

``python -P -m auditor.sandbox.worker``, started by `host.Worker` only.
The protocol runs on copies of descriptors 0 and 1. What a model prints goes to standard error,
whose end the parent keeps; nothing it prints can reach the protocol.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import importlib
import io
import os
import threading
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from auditor.sandbox import adapt, protect, spawn

if TYPE_CHECKING:  # numpy starts threads on import: only after the early protections
    import numpy as np

    from auditor.sandbox.ops import Operation

_TRACE_LIMIT = 64 << 10


def main(parent: int | None = None) -> None:
    """Run until the other side closes the pipe.

    `parent` is the process this one must die with when it is not the one that sends the calls (a
    zygote, which dies with that one).
    """
    started = time.monotonic()
    requests, answers = _claim_pipes()
    config = spawn.read_configuration(requests)
    config["parent"] = parent or config["parent"]
    adapt.to_a_locked_process()
    told = protect.early(
        parent=config["parent"],
        cpu_seconds=config["cpu_seconds"],
        open_files=config["open_files"],
        readable=config["readable"],
        gpu=config["gpu"],
    )
    if told["dies_with_parent"].status != "applied":
        told["dies_with_parent"] = protect.watch_parent(config["parent"])
    prewarmed = {name: _import(name) for name in config["prewarm"]}
    server = Server(requests, answers, config["extra_ops"], config["message_bytes"])
    told |= protect.late(told, gpu=config["gpu"])
    server.answer(
        "ready",
        {
            "protections": {name: dataclasses.asdict(item) for name, item in told.items()},
            "prewarm": prewarmed,
            "seconds": round(time.monotonic() - started, 3),
        },
    )
    server.serve()


def _claim_pipes() -> tuple[io.FileIO, io.FileIO]:
    """Move the protocol away from descriptors 0 and 1 and give those harmless ends."""
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    faulthandler.enable()
    return io.FileIO(requests, "r"), io.FileIO(answers, "w")


def _import(name: str) -> dict[str, Any]:
    """Import a module ahead of time; one that is missing is for the operation to notice."""
    started = time.monotonic()
    try:
        importlib.import_module(name)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"seconds": round(time.monotonic() - started, 3)}


class Server:
    """Reads calls, runs operations, sends events and answers."""

    def __init__(
        self, requests: io.FileIO, answers: io.FileIO, extra_ops: dict[str, str], limit: int
    ) -> None:
        from auditor.sandbox import ops, transport

        self._transport = transport
        self._registry = ops.OPS | extra_ops
        self._requests, self._answers, self._limit = requests, answers, limit
        self._lock = threading.Lock()
        self._loaded: dict[str, Operation] = {}

    def serve(self) -> None:
        """Answer calls, one after the other, until the parent closes the pipe."""
        while True:
            try:
                message = self._transport.receive(self._requests, self._limit, trusted=True)
            except self._transport.Closed:
                return
            name = str(message.body.get("op"))
            try:
                body, arrays = self._operation(name)(
                    message.body.get("params", {}), message.arrays, self._emit
                )
                self.answer("result", body, arrays)
            except Exception as error:
                self.answer("error", _describe(error))

    def answer(
        self, kind: Any, body: dict[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Send one message; nothing is sent when it may not travel (TransportError)."""
        message = self._transport.Message(kind, body, dict(arrays or {}))
        with self._lock:
            self._transport.send(self._answers, message, self._limit)

    def _emit(self, body: dict[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        self.answer("event", body, arrays)

    def _operation(self, name: str) -> Operation:
        """The function behind a name of the registry; anything else is refused."""
        if name not in self._loaded:
            if name not in self._registry:
                raise LookupError(f"no operation is called '{name}'")
            module, _, function = self._registry[name].partition(":")
            self._loaded[name] = getattr(importlib.import_module(module), function)
        return self._loaded[name]


def _describe(error: Exception) -> dict[str, Any]:
    """An exception as an error message's body."""
    from auditor.errors import AuditError

    text = "".join(traceback.format_exception(error))
    return {
        "type": type(error).__name__,
        "kind": error.kind if isinstance(error, AuditError) else "crash",
        "message": str(error)[:_TRACE_LIMIT],
        "traceback": text[-_TRACE_LIMIT:],
    }


if __name__ == "__main__":
    main()
