"""The operations a worker may be asked for: name -> "module:function", imported on first use.

A function has the signature ``op(params, arrays, emit) -> (body, arrays)`` where ``emit(body,
arrays)`` sends an event on the way. What it raises becomes an error message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Emit = Callable[..., None]
Operation = Callable[[dict[str, Any], dict[str, np.ndarray], Emit], tuple[dict[str, Any], Arrays]]

OPS: dict[str, str] = {
    "ping": "auditor.sandbox.ops:ping",
    "file_audit": "auditor.child.file_audit:run",
    "activations": "auditor.child.activations:run",
    "behave": "auditor.child.behave:run",
    "inspect": "auditor.child.inspect:run",
    "measure": "auditor.child.measure:run",
    "repair": "auditor.child.repair:run",
    "cut": "auditor.child.cut:run",
    "outline": "auditor.child.outline:run",
    "weights": "auditor.child.outline:weights",
    "scores": "auditor.child.scores:run",
}


def ping(
    params: dict[str, Any], arrays: dict[str, np.ndarray], emit: Emit
) -> tuple[dict[str, Any], Arrays]:
    """Return what came in: is the process alive, and how fast is the way there and back?"""
    return params, arrays
