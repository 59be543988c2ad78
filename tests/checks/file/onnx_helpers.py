"""Run file checks on a path without the rest of the tool."""

import os
from pathlib import Path

import pytest

from auditor.checks.file import (
    onnx_bytes,
    onnx_invariants,
    onnx_operators,
    onnx_resources,
    onnx_trigger,
)
from auditor.checks.interface import Budget, FileContext
from auditor.findings import Finding, Severity

MODULES = (onnx_bytes, onnx_trigger, onnx_operators, onnx_invariants, onnx_resources)


class FakeArtifact:
    format = "onnx"

    def __init__(self, path):
        self.path = Path(path)


def findings(path, modules=MODULES):
    context = FileContext(FakeArtifact(path), Budget(60))
    outcomes = [o for m in modules for check in m.CHECKS for o in check().run(context)]
    return [outcome for outcome in outcomes if isinstance(outcome, Finding)]


def serious(path, modules=MODULES):
    return [item for item in findings(path, modules) if item.severity >= Severity.MEDIUM]


def shared(*parts):
    """A path of the test material, or skip."""
    root = Path(os.environ.get("AUDITOR_DATA", "/work/shared/data")).parent
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"test material {path} is absent")
    return path
