"""The parent's side of each stage of a scan: start a child, ask, collect what comes back.

A child that crashes, hangs or outgrows its limits becomes a finding about the model; what it said
before stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Description
from auditor.artifacts.open import READERS
from auditor.checks.interface import Check
from auditor.checks.wire import from_wire
from auditor.child.file_audit import description_from_wire
from auditor.errors import SandboxError
from auditor.findings import CheckResult, Finding, Severity
from auditor.inputs import to_wire
from auditor.options import ScanOptions
from auditor.samples.interface import Images
from auditor.samples.preprocessing import Preprocessing
from auditor.sandbox.failure import OperationFailed
from auditor.sandbox.host import Worker
from auditor.sandbox.limits import Limits
from auditor.sandbox.transport import Message

FILE_SECONDS = 20.0

Told = Callable[[str], None]
"""Progress: the name of what starts now."""


@dataclass(slots=True)
class FileStage:
    """The parsed file and its checks; `died` when the parser itself did."""

    description: Description | None = None
    results: list[CheckResult] = field(default_factory=list)
    died: SandboxError | None = None


@dataclass(slots=True)
class BehaviourStage:
    """What running it showed. `reason` says why nothing or not everything ran."""

    results: list[CheckResult] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    triggers: list[dict[str, Any]] = field(default_factory=list)
    picture: NDArray[Any] | None = None
    reason: str = ""
    died: SandboxError | None = None


def light_worker(path: Path, options: ScanOptions, kind: str) -> Worker:
    """For parsing a file of the `kind` that `recognise` told: no torch inside, started at once."""
    limits = Limits(memory=options.memory, timeout=options.timeout, threads=1)
    reader = READERS[kind].partition(":")[0]
    prewarm = (reader, "auditor.child.file_audit", "auditor.checks.registry")
    return Worker(limits=limits, prewarm=prewarm, readable=_readable(path))


def heavy_worker(path: Path, options: ScanOptions) -> Worker:
    """For running the model: torch and onnxruntime are imported while the file is parsed."""
    limits = Limits(
        memory=options.memory,
        timeout=options.timeout,
        threads=options.jobs or None,
        gpu=options.device != "cpu",
    )
    prewarm = ("torch", "onnxruntime", "auditor.child.behave", "auditor.child.repair")
    return Worker(limits=limits, prewarm=prewarm, readable=_readable(path))


def _readable(path: Path) -> tuple[Path, ...]:
    """The model's folder, and where the model really lies when it is a link (hub caches)."""
    return (path.absolute().parent, path.resolve(), path.resolve().parent)


def audit_file(worker: Worker, path: Path, checks: Sequence[type[Check]]) -> FileStage:
    """Describe and check the file. Raises the `AuditError` of an unreadable or refused file."""
    stage = FileStage()

    def on_event(message: Message) -> None:
        if "description" in message.body:
            stage.description = description_from_wire(message.body["description"])
        elif "check" in message.body:
            stage.results.append(from_wire(message.body["check"], message.arrays))

    names = [check.name for check in checks]
    params = {"path": str(path.absolute()), "checks": names, "seconds": FILE_SECONDS}
    try:
        worker.result("file_audit", params, timeout=3 * FILE_SECONDS, on_event=on_event)
    except SandboxError as death:
        stage.died = death
        stage.results.extend(_unfinished(names, stage.results, death))
    return stage


def audit_behaviour(
    worker: Worker,
    path: Path,
    checks: Sequence[type[Check]],
    samples: Images | None,
    training: Images | None,
    options: ScanOptions,
    budget: float,
    told: Told,
    preprocessing: Preprocessing | None = None,
) -> BehaviourStage:
    """Run the model and the behaviour checks. Raises `UnreadableSamples` for unfitting samples."""
    stage = BehaviourStage()
    names = [check.name for check in checks]
    params, arrays = behave_request(path, names, samples, training, options, budget)
    if preprocessing is not None:
        params["preprocessing"] = preprocessing.to_json()

    def on_event(message: Message) -> None:
        if "check" in message.body:
            stage.results.append(from_wire(message.body["check"], message.arrays))
        elif "started" in message.body:
            told(str(message.body["started"]))
        elif "session" in message.body:
            stage.facts = dict(message.body["session"])
            stage.notices = [str(n) for n in message.body["notices"]]

    try:
        end = worker.result("behave", params, arrays, on_event=on_event)
    except SandboxError as death:
        stage.died = death
        stage.reason = str(death)
        stage.results.extend(_unfinished(names, stage.results, death))
        return stage
    body = end.body
    stage.reason = str(body.get("reason", ""))
    stage.triggers = list(body.get("backdoor", {}).get("triggers", []))
    stage.picture = end.arrays.get("trigger")
    if stage.reason:
        status = "skipped"
        stage.results = [CheckResult(n, status, stage.reason, 0.0) for n in names]
    return stage


def behave_request(
    path: Path,
    names: list[str],
    samples: Images | None,
    training: Images | None,
    options: ScanOptions,
    budget: float,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What the child operation ``behave`` is asked, and the arrays that go along."""
    about, arrays = to_wire(samples, "samples")
    about_training, training_arrays = to_wire(training, "training")
    params = {
        "path": str(path.absolute()),
        "checks": names,
        "seconds": budget,
        "seed": options.seed,
        "threads": options.jobs or cores(),
        "device": options.device,
        "max_samples": options.max_samples,
        "overrides": overrides_to_wire(options),
        "options": dict(options.settings),
        **about,
        **about_training,
    }
    return params, {**arrays, **training_arrays}


def overrides_to_wire(options: ScanOptions) -> dict[str, Any]:
    """What the user stated about preprocessing, as JSON."""
    names = ("layout", "scale", "mean", "std", "size")
    values = ((name, getattr(options.overrides, name)) for name in names)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values}


def death_finding(death: SandboxError, what: str) -> Finding:
    """A crash, hang or outgrown limit as a finding about the model."""
    reason = "crash" if isinstance(death, OperationFailed) else getattr(death, "reason", "crash")
    return Finding(
        rule=f"sandbox.{reason}",
        severity=Severity.MEDIUM,
        title=f"The audit's process did not survive {what} this model",
        evidence=str(death),
        why=(
            "A model that crashes, hangs or exhausts the process that opens it can do the same to "
            "the service it is deployed in; it also kept the audit from finishing."
        ),
        remedy="Do not deploy it before the cause is known; raise --memory or --timeout if it is "
        "only large.",
    )


def _unfinished(
    names: Sequence[str], results: Sequence[CheckResult], death: SandboxError
) -> list[CheckResult]:
    done = {result.name for result in results}
    return [CheckResult(n, "incomplete", str(death), 0.0) for n in names if n not in done]


def cores() -> int:
    """Processors this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_float(value: Any) -> float | None:
    """A finite number from the child, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return None
