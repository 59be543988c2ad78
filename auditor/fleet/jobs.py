"""What runs on a worker: fetch one model, hash it, audit it in the sandbox, send back the report.

A job is a place and a configuration, never a model; so it costs the same to send to the next
process and to the next machine. The worker itself opens no model: that is the sandbox child's part.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from auditor.artifacts.digest import digest_file
from auditor.errors import AuditError
from auditor.fleet.discovery import NO_MODELS, stamp_of
from auditor.fleet.interface import Source, SourceError
from auditor.fleet.keys import artifact_key
from auditor.fleet.orphans import end_with
from auditor.fleet.redact import redacted
from auditor.fleet.sources.registry import open_source
from auditor.version import __version__

if TYPE_CHECKING:
    from auditor.options import ScanOptions
    from auditor.report.model import Report
    from auditor.sandbox.nursery import Nursery

LIGHT = (
    "auditor.artifacts.onnx",
    "auditor.artifacts.torchscript",
    "auditor.artifacts.exported",
    "auditor.child.file_audit",
    "auditor.checks.registry",
    "auditor.child.warm",
)
HEAVY = (*LIGHT, "torch", "onnxruntime", "auditor.child.behave", "auditor.child.repair")
"""What the warm processes have imported: all that `auditor.stages` asks for."""

_MOST_BESIDE = 64
"""Files of external data fetched for one remote model."""

Files = tuple[tuple[str, str, str], ...]
"""(name, stamp, sha256), the model file first."""


@dataclass(frozen=True, slots=True)
class Job:
    """`model` is the store's number for it; `shown` goes into the report. `files` and `known` are
    those of the result that is there already, if any: the same content is not audited again."""

    model: int
    origin: str
    path: str
    shown: str
    options: ScanOptions
    sure: bool = True
    files: Files = ()
    known: str = ""
    tool: str = __version__


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job. `report` is compressed JSON; `summary` what the index shows of it."""

    kind: Literal["audited", "unchanged", "failed", "ignored"]
    model: int
    seconds: float
    reason: str = ""
    artifact: str = ""
    files: Files = ()
    summary: dict[str, Any] | None = None
    report: bytes = b""


def audit(job: Job) -> Done:
    """Fetch and audit one model. Never raises for what is wrong with it or with its place."""
    started = time.monotonic()
    if job.tool != __version__:
        reason = f"this worker has version {__version__} of model-auditor, the driver {job.tool}"
        return Done("failed", job.model, 0.0, reason)
    end_with(os.getppid())
    try:
        with _scratch() as folder:
            done = _audit(job, open_source(job.origin), folder)
    except AuditError as error:
        done = Done("failed", job.model, 0.0, redacted(str(error)))
    except OSError as error:
        where = f" ({Path(error.filename).name})" if isinstance(error.filename, str) else ""
        done = Done("failed", job.model, 0.0, redacted(f"{error.strerror or error}{where}"))
    return replace(done, seconds=time.monotonic() - started)


def _audit(job: Job, source: Source, folder: Path) -> Done:
    from auditor.scanning import scan

    model = source.fetch(job.path, folder)
    fetched = model.is_relative_to(folder)
    before = model.stat()
    main = digest_file(model)
    if fetched:
        _fetch_beside(job, source, model)
    if job.known and job.files and job.files[0][2] == main.sha256:
        files = _files(model, main.sha256, [name for name, _, _ in job.files[1:]], fetched)
        if files is not None and artifact_key([(n, s) for n, _, s in files]) == job.known:
            return Done("unchanged", job.model, 0.0, artifact=job.known, files=files)
    with _warm().active():
        report = scan(model, options=job.options)
    if report.error is not None and not job.sure and _is_no_model(report.error.message):
        return Done("ignored", job.model, 0.0, report.error.message)
    names = [file.name for file in report.artifact.files[1:]]
    files = _files(model, main.sha256, names, fetched)
    after = model.stat()
    if files is None or stamp_of(before) != stamp_of(after):
        raise SourceError("the file changed while it was audited; it is tried again next time")
    if report.artifact.sha256 not in ("", main.sha256):
        raise SourceError("the model's process named another hash than the file has")
    shown = _named(report, job, model)
    return Done(
        "audited",
        job.model,
        0.0,
        artifact=artifact_key([(n, s) for n, _, s in files]),
        files=files,
        summary=summary(shown, before.st_size),
        report=zlib.compress(shown.model_dump_json().encode("utf-8"), 6),
    )


def _named(report: Report, job: Job, model: Path) -> Report:
    """With the name the user knows it by instead of a temporary file's, and without secrets."""
    update: dict[str, Any] = {
        "artifact": report.artifact.model_copy(update={"path": job.shown}),
    }
    if report.error is not None:
        message = report.error.message.replace(str(model), job.shown)
        update["error"] = report.error.model_copy(update={"message": message})
        update["reasons"] = tuple(r.replace(str(model), job.shown) for r in report.reasons)
    return report.model_copy(update=update)


def summary(report: Report, size: int) -> dict[str, Any]:
    """What the index shows of a report: plain JSON values."""
    from auditor.report.summary import severity_counts

    worst = report.findings[0] if report.findings else None
    return {
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "format": report.artifact.format,
        "sha256": report.artifact.sha256,
        "bytes": size,
        "parameters": report.artifact.parameters,
        "seconds": report.seconds,
        "counts": severity_counts(report),
        "targets": list(report.backdoor.target_classes),
        "accuracy": report.samples.clean_accuracy if report.samples else None,
        "rules": sorted({f.rule for f in report.findings})[:20],
        "worst": worst.title if worst else "",
        "reason": report.error.message if report.error else next(iter(report.reasons), ""),
        "error": report.error.kind if report.error else "",
    }


def _files(model: Path, main: str, names: Sequence[str], fetched: bool) -> Files | None:
    """Hashes of the model's files by this process; None when one is not there.

    The names come from the model's process: one that leads out of the folder is refused.
    """
    # A fetched file's times say nothing: the place's own stamp stays.
    files = [(model.name, "" if fetched else stamp_of(model.stat()), main)]
    folder = model.parent
    for name in names:
        path = folder / name
        if not _inside(name) or not path.is_file():
            return None
        stamp = "" if fetched else stamp_of(path.stat())
        files.append((name, stamp, digest_file(path).sha256))
    return tuple(files)


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _fetch_beside(job: Job, source: Source, model: Path) -> None:
    """External data of a fetched model: the sandbox says which names are missing."""
    from auditor.artifacts.recognise import recognise
    from auditor.stages import audit_file, light_worker

    try:
        kind = recognise(model)
    except AuditError:
        return  # the scan says so
    if kind != "onnx":
        return
    with _warm().active(), light_worker(model, job.options, kind) as worker:
        try:
            stage = audit_file(worker, model, [])
        except AuditError:
            return
    missing = stage.description.extra.get("external_missing", "") if stage.description else ""
    for name in [n for n in missing.split(", ") if n][:_MOST_BESIDE]:
        if _inside(name):
            source.fetch_beside(job.path, name, model.parent)


def _is_no_model(message: str) -> bool:
    return (
        any(f" is {what}" in message for what in NO_MODELS)
        or "no model file" in message
        or ("is a text file" in message or "is an image" in message or "is a program" in message)
    )


@cache
def _warm() -> Nursery:
    """This worker's warm processes; they end with it."""
    from auditor.sandbox.nursery import Nursery

    return Nursery([LIGHT, HEAVY])


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what is fetched; what killed workers of this machine left is cleared first."""
    _clear_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"audit-fetch-{os.getpid()}-") as folder:
        yield Path(folder)


@cache
def _clear_leftovers() -> None:
    import shutil

    import psutil

    kinds = ("fetch", "worker", "zygote")
    room = Path(tempfile.gettempdir())
    for folder in (found for kind in kinds for found in room.glob(f"audit-{kind}-*-*")):
        number = folder.name.split("-")[2]
        with contextlib.suppress(OSError):
            mine = folder.stat().st_uid == os.getuid() and not folder.is_symlink()
            if mine and number.isdecimal() and not psutil.pid_exists(int(number)):
                shutil.rmtree(folder, ignore_errors=True)
