"""Write reports: to a temporary file first, then renamed, so that nothing is ever half-written."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import UsageError

if TYPE_CHECKING:
    from auditor.report.model import Report

DEFAULT_OUT = Path("audit-reports")


def folder_for(model: Path, out: Path | None, *, several: bool) -> Path:
    """``audit-reports/<file name>/``, or `out` (with a folder per model when there are several)."""
    if out is None:
        return DEFAULT_OUT / model.name
    return out / model.name if several else out


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` by rename. Raises `UsageError` when the folder cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` by rename. Raises `UsageError` when that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(
            f"cannot write {path.name} into {path.parent}: {error.strerror}"
        ) from error


def write_report(report: Report, formats: Sequence[str], folder: Path) -> None:
    """Every format but the table, into `folder`; ``report.json`` always."""
    from auditor.report.registry import get_format

    for name in dict.fromkeys(("json", *formats)):
        if name == "table":
            continue
        view = get_format(name)
        write_atomically(folder / view.filename, view.render(report))


def print_json(reports: Sequence[Report]) -> None:
    """JSON alone on standard output: one report, or all under ``reports``."""
    from auditor.report.registry import get_format

    view = get_format("json")
    text = view.render(reports[0]) if len(reports) == 1 else view.render_many(reports)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
