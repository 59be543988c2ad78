"""The report files of each model, written from the store; only those that are missing or old."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from auditor.errors import AuditError
from auditor.fleet.names import report_stem
from auditor.fleet.rows import Row
from auditor.fleet.store import Store
from auditor.fleet.streams import replacing
from auditor.report.build import build_error
from auditor.report.model import ErrorRecord, Report

FOLDER = "reports"
_SUFFIX = {
    "json": ".json",
    "html": ".html",
    "markdown": ".md",
    "sarif": ".sarif",
    "cyclonedx": ".cdx.json",
    "junit": ".junit.xml",
    "csv": ".csv",
}


def shown_name(uri: str) -> str:
    """How a model is called in reports: below the current folder by its relative path, elsewhere
    by the end of its path; never an absolute path, for reports are shared."""
    if not uri.startswith("/"):
        return uri
    relative = os.path.relpath(uri)
    if not relative.startswith(".."):
        return relative
    return "/".join(uri.rstrip("/").split("/")[-3:])


def report_path(uri: str, name: str) -> str:
    """Relative to ``--out``: ``reports/ab/models-cnn.onnx-0123456789abcdef.json``."""
    return f"{FOLDER}/{report_stem(uri)}{_SUFFIX.get(name, '.' + name)}"


def write_reports(store: Store, run: int, out: Path, formats: Sequence[str]) -> None:
    """Every model of `run` has its files afterwards. Raises OSError."""
    for row, _ in store.listed(run):
        write_one(store, row, out, formats)


def write_one(store: Store, row: Row, out: Path, formats: Sequence[str]) -> None:
    """The files of one model, if they are not there as they should be."""
    if row.state not in ("done", "lost", "failed"):
        return
    wanted = tuple(dict.fromkeys(("json", *formats)))
    result = row.result if row.state == "done" else row.reason
    written = f"{row.state}:{result}:{shown_name(row.uri)}:{','.join(wanted)}"
    there = all((out / report_path(row.uri, name)).exists() for name in wanted)
    if there and row.written == written:
        return
    _write(_report(store, row), row, out, wanted)
    store.mark_written(row.id, written)


def _report(store: Store, row: Row) -> Report:
    """The stored report under this model's name; without a result, a report that says so."""
    shown = shown_name(row.uri)
    if row.result is not None:
        report = Report.model_validate(store.report(row.result))
        if report.artifact.path != shown:  # the same content was audited under another name
            artifact = report.artifact.model_copy(update={"path": shown})
            report = report.model_copy(update={"artifact": artifact})
        return report
    report = build_error(shown, AuditError(row.reason))
    kind = row.kind or row.state
    error = ErrorRecord(kind="incomplete" if row.state == "lost" else kind, message=row.reason)
    return report.model_copy(update={"error": error, "exit_code": 3 if row.state == "lost" else 2})


def _write(report: Report, row: Row, out: Path, formats: Sequence[str]) -> None:
    from auditor.report.registry import get_format

    for name in formats:
        path = out / report_path(row.uri, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            stream.write(get_format(name).render(report))
