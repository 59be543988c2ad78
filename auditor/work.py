"""What is known so far about an artifact under audit: each stage of a scan adds its part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.checks.interface import Check
from auditor.findings import CheckResult
from auditor.options import ScanOptions
from auditor.policy.model import Policy
from auditor.report.model import SanitizedRecord
from auditor.samples.interface import Images
from auditor.stages import BehaviourStage, FileStage, Told, death_finding

_CRASHED = "sandbox"


@dataclass(slots=True)
class Work:
    """One artifact, how it is to be audited, and the results so far."""

    path: Path
    options: ScanOptions
    policy: Policy
    checks: tuple[type[Check], ...]
    told: Told
    notices: list[str] = field(default_factory=list)
    samples: Images | None = None
    training: Images | None = None
    file: FileStage = field(default_factory=FileStage)
    behaviour: BehaviourStage = field(default_factory=BehaviourStage)
    sanitized: SanitizedRecord | None = None
    protections: dict[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> list[CheckResult]:
        """Every check's result, file checks first, a dead child as one more."""
        results = [*self.file.results, *self.behaviour.results]
        for stage, what in ((self.file, "parsing"), (self.behaviour, "running")):
            # A process that died before it was asked for anything says nothing about the model.
            if stage.died is not None and getattr(stage.died, "op", what) is not None:
                finding = death_finding(stage.died, what)
                results.append(CheckResult(_CRASHED, "flagged", "", 0.0, (finding,)))
        return results
