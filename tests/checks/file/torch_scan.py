"""Run every torch file check on one file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from auditor.checks.file import (
    torch_code,
    torch_payload,
    torch_pickle,
    torch_pt2,
    torch_trigger,
    torch_zip_rules,
)
from auditor.checks.interface import Budget, FileContext, Skipped
from auditor.findings import Finding, Severity

MODULES = (torch_zip_rules, torch_pickle, torch_payload, torch_code, torch_trigger, torch_pt2)


def scan(path: Path) -> list[Finding]:
    """All findings of all torch checks; a check that does not apply adds none."""
    found: list[Finding] = []
    for module in MODULES:
        for check in module.CHECKS:
            artifact = cast(Any, SimpleNamespace(path=path))
            context = FileContext(artifact, Budget(60))
            try:
                found.extend(o for o in check().inspect(context) if isinstance(o, Finding))
            except Skipped:
                continue
    return found


def serious(found: list[Finding]) -> list[tuple[str, str, str]]:
    """(rule, severity word, evidence) of the findings at medium or above."""
    picked = [f for f in found if f.severity >= Severity.MEDIUM]
    return [(f.rule, f.severity.word, f.evidence[:300]) for f in picked]
