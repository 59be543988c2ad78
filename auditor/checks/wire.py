"""`CheckResult` over the pipe: JSON for the words, plain arrays for the pictures.

The receiving side treats everything as untrusted: `from_wire` raises `SandboxError` for anything
that does not have the expected form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import SandboxError
from auditor.findings import CheckResult, Figure, finding_from_json, finding_to_json

STATUSES = frozenset({"passed", "flagged", "skipped", "incomplete"})


def to_wire(result: CheckResult) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The result as a JSON body and named arrays."""
    arrays = {f"figure{i}": figure.pixels for i, figure in enumerate(result.figures)}
    body = {
        "name": result.name,
        "status": result.status,
        "reason": result.reason,
        "seconds": result.seconds,
        "findings": [finding_to_json(f) for f in result.findings],
        "metrics": dict(result.metrics),
        "notices": list(result.notices),
        "figures": [[f.name, f.title, f.from_samples] for f in result.figures],
    }
    return body, arrays


def from_wire(body: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> CheckResult:
    """Inverse of `to_wire` for untrusted input; raises `SandboxError`."""
    try:
        figures = tuple(
            Figure(str(name), str(title), _pixels(arrays[f"figure{i}"]), bool(from_samples))
            for i, (name, title, from_samples) in enumerate(body["figures"])
        )
        status = str(body["status"])
        if status not in STATUSES:
            raise ValueError(status)
        return CheckResult(
            str(body["name"]),
            status,
            str(body["reason"]),
            float(body["seconds"]),
            tuple(finding_from_json(f) for f in body["findings"]),
            dict(body["metrics"]),
            figures,
            tuple(str(n) for n in body["notices"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SandboxError(f"the model's process sent something unreadable ({error})") from error


def _pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.size > 4_000_000:
        raise ValueError("not a picture")
    if array.ndim == 3 and array.shape[2] != 3:
        raise ValueError("not a picture")
    return array
