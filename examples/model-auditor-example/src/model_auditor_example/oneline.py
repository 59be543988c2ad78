"""A report format: a finished report in, text out."""

from __future__ import annotations

from auditor.report.interface import Format
from auditor.report.model import Report
from auditor.report.text import visible


class OneLine(Format):
    """For a chat message. `visible` keeps control characters of a hostile model out of it."""

    name = "oneline"
    title = "one line for a chat"
    filename = "report.oneline.txt"

    def render(self, report: Report) -> str:
        """The verdict, the model and the first reason."""
        reason = report.reasons[0] if report.reasons else ""
        return visible(f"{report.verdict}: {report.artifact.path}: {reason}") + "\n"
