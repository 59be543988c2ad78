"""What the parent asks a child that has a model loaded: repairs, answers, success of triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import AuditError, SandboxError
from auditor.options import ScanOptions
from auditor.sandbox.host import Worker
from auditor.stages import as_float

SANITIZE_SECONDS = 18.0
SANITIZE_RESERVE = 120.0  # beyond that, where no repair has come to a copy that works
MOST_SCORED = 4000
"""Samples on which a copy is compared with its original."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """Changed parameters by name, untrusted until `Artifact.write` has checked their shapes.

    `model` is a whole ONNX file instead, where nodes were added or cut: untrusted like the file it
    comes from, and audited like it before it is handed out. `candidates` has a row a method.
    """

    method: str
    changes: Mapping[str, NDArray[Any]]
    record: Mapping[str, Any]
    model: bytes | None = None
    candidates: Sequence[Mapping[str, Any]] = ()


def ask_repair(
    worker: Worker, path: Path, provenance: Mapping[str, str], options: ScanOptions
) -> Repaired | str:
    """A repair of the model `worker` has loaded, or the sentence why there is none."""
    params = {
        "method": options.method,
        "path": str(path.absolute()),
        "provenance": dict(provenance),
        "seconds": SANITIZE_SECONDS,
        "reserve": SANITIZE_RESERVE,
        "max_accuracy_drop": options.max_accuracy_drop,
        "seed": options.seed,
        "max_samples": options.max_samples,
    }
    return _ask(worker, "repair", params)


def ask_cut(
    worker: Worker, path: Path, provenance: Mapping[str, str], options: ScanOptions
) -> Repaired | str:
    """The ONNX model without its trigger logic, or the sentence why it cannot be cut out."""
    del options
    params = {"path": str(path.absolute()), "provenance": {**provenance, "method": "graph-cut"}}
    return _ask(worker, "cut", params)


def _ask(worker: Worker, operation: str, params: dict[str, Any]) -> Repaired | str:
    try:
        message = worker.result(
            operation, params, timeout=3 * (SANITIZE_SECONDS + SANITIZE_RESERVE)
        )
    except SandboxError as death:
        return f"sanitizing did not finish: {death}"
    if not message.body.get("repaired"):
        return str(message.body.get("reason", "no repair was found"))
    record = dict(message.body.get("record", {}))
    rewritten = operation == "cut" or bool(message.body.get("with_nodes"))
    whole = message.arrays.get("model") if rewritten else None
    return Repaired(
        str(message.body["method"]),
        {} if whole is not None else message.arrays,
        record,
        None if whole is None else np.asarray(whole, np.uint8).tobytes(),
        [row for row in message.body.get("candidates", []) if isinstance(row, dict)],
    )


class Scored(NamedTuple):
    """Native scores (N, K), labels (N,) (empty without samples), and images a second."""

    scores: NDArray[Any]
    labels: NDArray[Any]
    speed: float


def ask_scores(worker: Worker, options: ScanOptions) -> Scored | None:
    """What the model `worker` has loaded answers; None when that cannot be had."""
    try:
        message = worker.result("scores", {"most": MOST_SCORED, "seed": options.seed})
    except AuditError:
        return None
    scores, labels = message.arrays.get("scores"), message.arrays.get("labels")
    if scores is None or labels is None or scores.ndim != 2 or scores.dtype.kind != "f":
        return None
    return Scored(scores, labels, as_float(message.body.get("images_per_second")) or 0.0)


def ask_asr(
    worker: Worker, triggers: Sequence[Mapping[str, Any]], options: ScanOptions
) -> list[float]:
    """ASR of recovered `triggers` on the model `worker` has loaded; empty when it cannot be had."""
    if not triggers:
        return []
    wanted = [{"trigger": t.get("trigger"), "target": t.get("target")} for t in triggers]
    try:
        body = worker.result(
            "measure", {"triggers": wanted, "max_samples": options.max_samples}
        ).body
    except AuditError:
        return []
    rates = [as_float(value) for value in body.get("asr", [])]
    return [rate for rate in rates if rate is not None]
