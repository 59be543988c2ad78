"""An earlier report as a baseline: findings it already has are known, only new ones count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from auditor.findings import Finding, Severity
from auditor.report.model import load_reports


@dataclass(frozen=True, slots=True)
class Baseline:
    """Severity by (model path as reported, fingerprint)."""

    known: Mapping[tuple[str, str], Severity] = field(default_factory=dict)

    def knows(self, finding: Finding, path: str) -> bool:
        """Whether `finding` was there before, at the same or a higher severity."""
        return any(
            fingerprint == finding.fingerprint
            and finding.severity <= severity
            and _same_model(before, path)
            for (before, fingerprint), severity in self.known.items()
        )


def load_baseline(path: Path) -> Baseline:
    """Read a ``report.json`` or the envelope of several. Raises `UsageError`.

    Suppressed findings of the earlier run are not part of it: their date decides, not this file.
    """
    known = {
        (report.artifact.path, finding.fingerprint): Severity.parse(finding.severity)
        for report in load_reports(path)
        for finding in report.findings
    }
    return Baseline(known)


def _same_model(before: str, now: str) -> bool:
    """Equal paths; or equal names where one was audited from its own folder."""
    one, other = PurePosixPath(before), PurePosixPath(now)
    return one == other or (one.name == other.name and 1 in (len(one.parts), len(other.parts)))
