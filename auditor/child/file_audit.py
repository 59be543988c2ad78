"""Child operation ``file_audit``: describe the artifact, run the file checks, execute nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from auditor.artifacts.interface import Description, FileDigest, TensorInfo
from auditor.artifacts.open import open_artifact
from auditor.checks.interface import Budget, FileCheck, FileContext
from auditor.checks.registry import all_checks
from auditor.checks.runner import run_check
from auditor.checks.wire import to_wire
from auditor.errors import SandboxError

Emit = Callable[[dict[str, Any], dict[str, Any]], None]
Reply = tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]


def run(params: dict[str, Any], arrays: Mapping[str, Any], emit: Emit) -> Reply:
    """``params``: ``path``, ``checks`` (names), ``seconds``. Events: one ``check`` each.

    Raises the `AuditError` of an unreadable or unsupported file.
    """
    artifact = open_artifact(Path(params["path"]))
    description = artifact.describe()
    emit({"description": description_to_wire(description)}, {})
    wanted = set(params["checks"])
    budget = Budget(float(params["seconds"]))
    for registered in all_checks()[0]:
        check = registered.check
        if check.name in wanted and issubclass(check, FileCheck):
            result = run_check(check(), FileContext(artifact, budget.share(1.0)))
            body, pictures = to_wire(result)
            emit({"check": body}, pictures)
    return {}, {}


def description_to_wire(description: Description) -> dict[str, Any]:
    """JSON values only."""
    record = asdict(description)
    record["operators"] = dict(description.operators)
    record["extra"] = dict(description.extra)
    return record


def description_from_wire(record: Mapping[str, Any]) -> Description:
    """Inverse of `description_to_wire` for untrusted input; raises `SandboxError`."""
    try:
        return Description(
            format=str(record["format"]),
            files=tuple(
                FileDigest(str(f["name"]), str(f["sha256"]), int(f["bytes"]))
                for f in record["files"]
            ),
            producer=str(record["producer"]),
            version=str(record["version"]),
            inputs=tuple(_tensor(t) for t in record["inputs"]),
            outputs=tuple(_tensor(t) for t in record["outputs"]),
            parameters=int(record["parameters"]),
            operators={str(k): int(v) for k, v in record["operators"].items()},
            extra={str(k): str(v) for k, v in record["extra"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SandboxError(f"the model's process sent something unreadable ({error})") from error


def _tensor(record: Mapping[str, Any]) -> TensorInfo:
    shape = record["shape"]
    axes = None if shape is None else tuple(_axis(axis) for axis in shape)
    return TensorInfo(str(record["name"]), str(record["dtype"]), axes)


def _axis(axis: Any) -> int | str | None:
    return axis if axis is None or isinstance(axis, int) else str(axis)
