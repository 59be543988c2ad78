"""CSV for fleets: one line a model. Cells a spreadsheet would run as a formula are quoted."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from auditor.report.interface import Format
from auditor.report.model import Report
from auditor.report.summary import SEVERITIES, severity_counts
from auditor.report.text import visible

COLUMNS = (
    "path",
    "format",
    "sha256",
    "bytes",
    "parameters",
    "verdict",
    "exit_code",
    "target_classes",
    "trigger_family",
    "trigger_asr",
    "backdoor_probability",
    "backdoor_probability_low",
    "backdoor_probability_high",
    "outside_calibration",
    "clean_accuracy",
    *SEVERITIES,
    "suppressed",
    "sanitized",
    "seconds",
    "error",
)


class CsvFormat(Format):
    """A header and one line a model; unknown cells are empty."""

    name = "csv"
    title = "CSV, one line a model"
    filename = "report.csv"

    def render(self, report: Report) -> str:
        """The header and one line."""
        return self.render_many([report])

    def render_many(self, reports: Sequence[Report]) -> str:
        """The header once, then every model."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([safe_cell(v) for v in _row(report)] for report in reports)
        return stream.getvalue()


def _row(report: Report) -> list[str | int | float | None]:
    a, b = report.artifact, report.backdoor
    return [
        a.path,
        a.format,
        a.sha256,
        a.bytes,
        a.parameters,
        report.verdict,
        report.exit_code,
        " ".join(map(str, b.target_classes)),
        b.trigger.family if b.trigger else None,
        b.trigger.asr if b.trigger else None,
        b.probability,
        *(b.interval or (None, None)),
        "; ".join(b.outside_calibration) or None,
        report.samples.clean_accuracy if report.samples else None,
        *severity_counts(report).values(),
        len(report.suppressions),
        report.sanitized.path if report.sanitized else None,
        report.seconds,
        report.error.message if report.error else None,
    ]


def safe_cell(value: str | int | float | None) -> str | int | float:
    """`value` as a cell no spreadsheet runs; None is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@", "|", "%") else shown
