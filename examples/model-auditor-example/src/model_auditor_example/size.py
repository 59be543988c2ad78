"""A file check: it parses, it never runs the model."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.interface import FileCheck, FileContext
from auditor.findings import Finding, Metric, Outcome, Severity

LIMIT = 50_000_000
"""More parameters than our devices hold."""


class SizeLimit(FileCheck):
    """Flags a model with more parameters than the devices we deploy to can hold."""

    name = "example.size"
    title = "Size limit"
    doc = "Counts stored parameters. Wrong for models that share or generate weights at run time."
    default_severity = Severity.MEDIUM

    def inspect(self, context: FileContext) -> Iterator[Outcome]:
        """Yield the count, and a finding when it is over the limit."""
        count = context.artifact.describe().parameters
        yield Metric("example.size.parameters", count)
        if count > LIMIT:
            yield Finding(
                rule="example.size",
                severity=self.default_severity,
                title="The model is too large for our devices",
                evidence=f"{count:,} parameters; the limit is {LIMIT:,}",
                why="It would not load in production.",
                remedy="Prune it, or choose a smaller architecture.",
            )
