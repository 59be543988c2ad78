"""One index over the fleet: ``index.html``, ``index.csv``, ``index.json``, streamed from the store.

Two passes over the rows, worst first: one counts, one writes. Nothing is held but the totals.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from auditor.fleet.reports import report_path, shown_name
from auditor.fleet.rows import Row
from auditor.fleet.store import Store
from auditor.fleet.streams import replacing
from auditor.fleet.totals import Totals, exit_code_of, reason_of, verdict_of
from auditor.report.csv import safe_cell
from auditor.report.model import SCHEMA_VERSION
from auditor.report.summary import SEVERITIES
from auditor.version import __version__

__all__ = ["Totals", "write_index"]

MOST_ROWS = 5000
"""Rows of the HTML page, worst first: a browser bears no more. CSV and JSON hold all."""

COLUMNS = (
    "model",
    "verdict",
    "exit_code",
    "format",
    "sha256",
    "bytes",
    "parameters",
    *SEVERITIES,
    "target_classes",
    "clean_accuracy",
    "seconds",
    "reason",
    "report",
)


def write_index(
    store: Store,
    run: int,
    out: Path,
    *,
    passed: int,
    known: int,
    seconds: float,
    formats: Sequence[str],
    skip_unsupported: bool,
    sources: Sequence[str],
) -> Totals:
    """Write the three files into `out`, each by rename; the totals. Raises OSError."""
    totals = Totals(known=known, passed=passed, seconds=seconds)
    for row, summary in store.listed(run):
        totals.add(row, summary, skip_unsupported=skip_unsupported)
    view = "html" if "html" in formats else "json"
    with replacing(out / "index.json") as stream:
        _json(stream, totals, sources, entries(store, run, "json"))
    with replacing(out / "index.csv") as stream:
        _csv(stream, entries(store, run, "json"))
    with replacing(out / "index.html") as stream:
        _html(stream, totals, sources, entries(store, run, view))
    return totals


def entries(store: Store, run: int, view: str) -> Iterator[dict[str, Any]]:
    """One flat record a model, the keys of `COLUMNS`; unknown ones are absent."""
    for row, summary in store.listed(run):
        yield _entry(row, summary, view)


def _entry(row: Row, summary: dict[str, Any] | None, view: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "model": shown_name(row.uri),
        "verdict": verdict_of(row, summary),
        "exit_code": exit_code_of(row, summary),
        "reason": reason_of(row, summary),
    }
    if row.state != "pending":
        entry["report"] = report_path(row.uri, view)
    if summary is not None:
        same = ("format", "sha256", "bytes", "parameters", "seconds")
        entry |= {name: summary[name] for name in same}
        entry |= summary["counts"]
        if summary["targets"]:
            entry["target_classes"] = summary["targets"]
        if summary["accuracy"] is not None:
            entry["clean_accuracy"] = summary["accuracy"]
    return entry


def _json(
    stream: IO[str], totals: Totals, sources: Sequence[str], rows: Iterable[dict[str, Any]]
) -> None:
    head = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "model-auditor", "version": __version__},
        "sources": list(sources),
        "totals": totals.to_json(),
        "exit_code": totals.exit_code,
    }
    stream.write(json.dumps(head, indent=1, allow_nan=False)[:-2] + ',\n "models": [')
    for number, row in enumerate(rows):
        stream.write(("," if number else "") + "\n  " + json.dumps(row, allow_nan=False))
    stream.write("\n ]\n}\n")


def _csv(stream: IO[str], rows: Iterable[dict[str, Any]]) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (row.get(name, "") for name in COLUMNS)
        writer.writerow(
            [safe_cell(" ".join(map(str, c)) if isinstance(c, list) else c) for c in cells]
        )


def _html(
    stream: IO[str], totals: Totals, sources: Sequence[str], rows: Iterator[dict[str, Any]]
) -> None:
    from auditor.fleet.page import stream_page

    for piece in stream_page(totals, sources, islice(rows, MOST_ROWS), MOST_ROWS):
        stream.write(piece)
