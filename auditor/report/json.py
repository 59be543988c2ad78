"""JSON: the report itself. For several models an envelope ``{schema_version, reports: [...]}``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from auditor.report.interface import Format
from auditor.report.model import SCHEMA_VERSION, Report


class JsonFormat(Format):
    """ASCII-only JSON: no control character or odd encoding can reach a terminal or a pipe."""

    name = "json"
    title = "the report as JSON (schema: auditor/report/schema/report-1.json)"
    filename = "report.json"

    def render(self, report: Report) -> str:
        """Indented JSON with a final newline."""
        return _dump(report.to_json())

    def render_many(self, reports: Sequence[Report]) -> str:
        """The envelope."""
        bodies = [report.to_json() for report in reports]
        return _dump({"schema_version": SCHEMA_VERSION, "reports": bodies})


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
