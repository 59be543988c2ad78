"""What the death of a model's process means, in one sentence."""

from __future__ import annotations

import signal
from typing import Literal

from auditor import errors
from auditor.errors import AuditError, SandboxError

Reason = Literal["timeout", "memory", "crash", "protocol"]


class WorkerDied(SandboxError):
    """The process is gone (killed by us, by the system or by itself) and took its call with it.

    `reason` says why, `op` what it was doing, `stderr` is the end of what it printed (untrusted
    text, for ``--debug`` only).
    """

    def __init__(self, sentence: str, *, reason: Reason, op: str | None, stderr: str = "") -> None:
        super().__init__(sentence)
        self.reason: Reason = reason
        self.op = op
        self.stderr = stderr


class OperationFailed(SandboxError):
    """The operation raised inside the process, which is still alive and can be called again.

    `type` is the exception's class name, `trace` its traceback (both untrusted text).
    """

    def __init__(self, sentence: str, *, type: str, trace: str) -> None:
        super().__init__(sentence)
        self.reason: Reason = "memory" if type == "MemoryError" else "crash"
        self.type = type
        self.trace = trace


def _kinds() -> dict[str, type[AuditError]]:
    """The user-facing error classes by the word the process sends."""
    found = (value for value in vars(errors).values() if isinstance(value, type))
    return {
        value.kind: value
        for value in found
        if issubclass(value, AuditError) and value not in (AuditError, SandboxError)
    }


def one_line(text: object, limit: int = 500) -> str:
    """Text from the process as one printable line: no control characters, bounded length."""
    words = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * limit]).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def from_body(op: str, body: dict[str, object]) -> AuditError:
    """The exception for an error message's body ``{type, kind, message, traceback}``."""
    message, kind = one_line(body.get("message", "")), body.get("kind")
    known = _kinds().get(kind) if isinstance(kind, str) else None
    if known is not None and message:
        return known(message)
    type_name = one_line(body.get("type", "error"), 80)
    return OperationFailed(
        f"'{op}' failed inside the model's process: {type_name}: {message or 'no message'}",
        type=type_name,
        trace=str(body.get("traceback", "")),
    )


def describe_exit(code: int, op: str | None, cpu_seconds: int) -> tuple[Reason, str]:
    """Reason and sentence for a process that ended on its own with `code` (as Popen gives it)."""
    doing = f"while running '{op}'" if op else "before it was asked to do anything"
    if code >= 0:
        return "crash", f"the model's process ended by itself (exit code {code}) {doing}"
    if -code == signal.SIGXCPU:
        return "timeout", f"the model's process used up its {cpu_seconds} s of processor time"
    if -code == signal.SIGKILL:
        return "memory", (
            f"the model's process was killed by the system {doing}, "
            "most likely because the machine ran out of memory"
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return "crash", f"the model's process died with {name} {doing}"
