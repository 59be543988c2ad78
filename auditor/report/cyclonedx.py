"""CycloneDX 1.6 ML-BOM: the model as a component with a model card, findings as vulnerabilities.

A plain mapping, because the Python library has no `modelCard`; our tests validate it against the
official schema. Source: CycloneDX bom-1.6.schema.json.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from auditor.report.interface import Format
from auditor.report.model import FindingRecord, Report, Tensor
from auditor.report.summary import LIMITS, counts_sentence
from auditor.report.text import shape, visible

_NAMESPACE = uuid.UUID("6f1d3c1e-7a0e-5a54-9d0d-1d3a5b1f0c11")
_TASK = "image-classification"


class CycloneDxFormat(Format):
    """One BOM; each model is a component."""

    name = "cyclonedx"
    title = "CycloneDX 1.6 ML-BOM"
    filename = "bom.cdx.json"

    def render(self, report: Report) -> str:
        """The BOM of one model."""
        return self.render_many([report])

    def render_many(self, reports: Sequence[Report]) -> str:
        """The BOM of several models."""
        return json.dumps(bom(reports), indent=2, allow_nan=False) + "\n"


def bom(reports: Sequence[Report]) -> dict[str, Any]:
    """The BOM as plain values; its serial number follows from the models' hashes and paths."""
    refs = [f"model-{i}" for i in range(len(reports))]
    identity = "|".join(f"{r.artifact.path}:{r.artifact.sha256}:{r.verdict}" for r in reports)
    tools = {(r.tool.name, r.tool.version) for r in reports}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, identity)}",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [
                    {"type": "application", "name": name, "version": version}
                    for name, version in sorted(tools)
                ]
            }
        },
        "components": [_component(r, ref) for r, ref in zip(reports, refs, strict=True)],
        "vulnerabilities": [
            vulnerability
            for report, ref in zip(reports, refs, strict=True)
            for vulnerability in _vulnerabilities(report, ref)
        ],
    }


def _component(report: Report, ref: str) -> dict[str, Any]:
    a = report.artifact
    record: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": visible(a.path),
        "mime-type": "application/octet-stream",
        "modelCard": _model_card(report),
        "properties": _properties(report),
    }
    if a.sha256:
        record["version"] = f"sha256:{a.sha256}"
        record["hashes"] = [{"alg": "SHA-256", "content": a.sha256}]
    if len(a.files) > 1:
        record["components"] = [
            {
                "type": "file",
                "bom-ref": f"{ref}-file-{i}",
                "name": visible(f.name),
                "hashes": [{"alg": "SHA-256", "content": f.sha256}],
            }
            for i, f in enumerate(a.files)
        ]
    return record


def _model_card(report: Report) -> dict[str, Any]:
    a = report.artifact
    operators = ", ".join(f"{visible(n, 60)} x{c}" for n, c in sorted(a.operators.items())[:40])
    parameters: dict[str, Any] = {
        "task": _TASK,
        "inputs": [{"format": _tensor(t)} for t in a.inputs],
        "outputs": [{"format": _tensor(t)} for t in a.outputs],
    }
    if operators:
        parameters["modelArchitecture"] = f"{a.parameters:,} parameters; {operators}"
    if report.samples:
        parameters["datasets"] = [{"type": "dataset", "name": visible(report.samples.source)}]
    metrics = [
        {"type": visible(name), "value": f"{value:.6g}"}
        for name, value in report.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": metrics},
        "considerations": {
            "technicalLimitations": list(LIMITS),
            "ethicalConsiderations": [
                {
                    "name": f"Audit verdict: {report.verdict} ({counts_sentence(report)})",
                    "mitigationStrategy": visible(" ".join(report.reasons)) or "-",
                }
            ],
        },
    }


def _tensor(tensor: Tensor) -> str:
    return f"{visible(tensor.name, 80)}: {tensor.dtype} {shape(tensor.shape)}"


def _properties(report: Report) -> list[dict[str, str]]:
    a = report.artifact
    values = {
        "verdict": report.verdict,
        "format": a.format,
        "opset": str(a.opset),
        "producer": a.producer,
        "parameters": str(a.parameters),
        "bytes": str(a.bytes),
        "seed": str(report.seed),
    }
    if report.error is not None:
        values["error"] = report.error.message
    return [{"name": f"audit:{name}", "value": visible(value)} for name, value in values.items()]


def _vulnerabilities(report: Report, ref: str) -> list[dict[str, Any]]:
    active = [(finding, None) for finding in report.findings]
    accepted = [(s.finding, s.reason) for s in report.suppressions]
    return [
        _vulnerability(finding, reason, ref, i)
        for i, (finding, reason) in enumerate([*active, *accepted])
    ]


def _vulnerability(f: FindingRecord, reason: str | None, ref: str, index: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        "bom-ref": f"{ref}-finding-{index}",
        "id": visible(f.rule),
        "source": {"name": "model-auditor"},
        "ratings": [{"severity": f.severity, "method": "other"}],
        "description": visible(f.title),
        "detail": visible(f"{f.evidence} {f.why}"),
        "recommendation": visible(f.remedy),
        "affects": [{"ref": ref}],
    }
    number = "".join(c for c in f.cwe or "" if c in "0123456789")
    if number:
        record["cwes"] = [int(number)]
    if reason is not None:
        record["analysis"] = {
            "state": "exploitable",
            "response": ["will_not_fix"],
            "detail": visible(reason),
        }
    return record
