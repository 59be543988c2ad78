"""SARIF 2.1.0 for GitHub code scanning: one run, one result a finding.

A model file has no lines, so every region is 1:1 to 1:1 and the fingerprint is ours (the upload
action would hash the first bytes of the binary). No null, no duplicate rule, no absolute path.
Source: OASIS SARIF 2.1.0 errata 01; GitHub's SARIF support page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from auditor.report.interface import Format
from auditor.report.model import FindingRecord, Report, SuppressionRecord
from auditor.report.text import visible

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
LEVEL = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
SCORE = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}
MAX_RESULTS = 5_000
"""GitHub keeps no more of one upload."""


class SarifFormat(Format):
    """One log with one run, whatever the number of models (GitHub refuses two of one category)."""

    name = "sarif"
    title = "SARIF 2.1.0, for code scanning"
    filename = "report.sarif"

    def render(self, report: Report) -> str:
        """The log of one model; its category is the model's path."""
        return self.render_many([report])

    def render_many(self, reports: Sequence[Report]) -> str:
        """The log of several models."""
        return json.dumps(sarif_log(reports), indent=2, allow_nan=False) + "\n"


def sarif_log(reports: Sequence[Report]) -> dict[str, Any]:
    """The log as plain values."""
    rules: dict[str, dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    artifacts: list[dict[str, Any]] = []
    for report in reports:
        artifact = _artifact(report)
        if artifact not in artifacts:
            artifacts.append(artifact)
        index = artifacts.index(artifact)
        results.extend(_result(report, index, finding, rules) for finding in report.findings)
        for dropped in report.suppressions:
            result = _result(report, index, dropped.finding, rules)
            results.append(result | {"suppressions": [_suppression(dropped)]})
    category = f"audit/{_uri(reports[0].artifact.path)}/" if len(reports) == 1 else "audit/"
    run = {
        "tool": {"driver": _driver(reports, list(rules.values()))},
        "automationDetails": {"id": category},
        "artifacts": artifacts,
        "invocations": [_invocation(reports)],
        "columnKind": "unicodeCodePoints",
        "results": results[:MAX_RESULTS],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _driver(reports: Sequence[Report], rules: list[dict[str, Any]]) -> dict[str, Any]:
    tool = reports[0].tool if reports else None
    driver: dict[str, Any] = {"name": tool.name if tool else "model-auditor", "rules": rules}
    if tool:
        driver["version"] = driver["semanticVersion"] = tool.version
    return driver


def _text(text: str, limit: int = 1_000) -> str:
    """Never empty, within GitHub's limit, and no embedded link (``[text](url)``)."""
    return visible(text, limit).replace("](", "] (") or "-"


def _uri(path: str) -> str:
    return quote(path.encode("utf-8", "replace"), safe="/")


def _rule(finding: FindingRecord) -> dict[str, Any]:
    properties: dict[str, Any] = {"tags": ["security", "machine-learning"], "precision": "high"}
    if finding.severity in SCORE:
        properties["security-severity"] = SCORE[finding.severity]
    if finding.cwe:
        number = "".join(c for c in finding.cwe if c.isdigit())
        properties["tags"].append(f"external/cwe/cwe-{number.zfill(3)}")
    return {
        "id": visible(finding.rule, 200),
        "shortDescription": {"text": _text(finding.title)},
        "fullDescription": {"text": _text(finding.why)},
        "help": {"text": _text(finding.remedy)},
        "defaultConfiguration": {"level": LEVEL[finding.severity]},
        "properties": properties,
    }


def _result(
    report: Report, index: int, finding: FindingRecord, rules: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    rule = rules.setdefault(finding.rule, _rule(finding))
    uri = _uri(report.artifact.path)
    key = f"{finding.rule}|{uri}|{finding.fingerprint}"
    digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]
    place: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri, "index": index},
            "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
        }
    }
    if finding.location:
        name = _text(finding.location)
        place["logicalLocations"] = [{"name": name, "fullyQualifiedName": name, "kind": "element"}]
    properties: dict[str, Any] = {"severity": finding.severity}
    if finding.target_class is not None:
        properties["target_class"] = finding.target_class
    return {
        "ruleId": rule["id"],
        "ruleIndex": list(rules).index(finding.rule),
        "level": LEVEL[finding.severity],
        "message": {"text": f"{_text(finding.title, 300)}. {_text(finding.evidence)}"},
        "locations": [place],
        "partialFingerprints": {"primaryLocationLineHash": f"{digest}:1"},
        "properties": properties,
    }


def _suppression(dropped: SuppressionRecord) -> Mapping[str, Any]:
    until = f" (until {dropped.expires})" if dropped.expires else ""
    return {
        "kind": "external",
        "status": "accepted",
        "justification": _text(dropped.reason + until),
    }


def _artifact(report: Report) -> dict[str, Any]:
    a = report.artifact
    record: dict[str, Any] = {
        "location": {"uri": _uri(a.path)},
        "roles": ["analysisTarget"],
        "mimeType": "application/octet-stream",
    }
    if a.sha256:
        record |= {"length": a.bytes, "hashes": {"sha-256": a.sha256}}
    return record


def _invocation(reports: Sequence[Report]) -> dict[str, Any]:
    notes = [note for report in reports for note in _notifications(report)]
    record: dict[str, Any] = {
        "executionSuccessful": all(report.error is None for report in reports),
        "toolExecutionNotifications": notes,
    }
    if len(reports) == 1:
        record["exitCode"] = reports[0].exit_code
    return record


def _notifications(report: Report) -> list[dict[str, Any]]:
    lines = [("note", notice) for notice in report.notices]
    lines += [
        ("warning", f"{check.name} could not finish: {check.reason}")
        for check in report.checks
        if check.status == "incomplete"
    ]
    if report.error is not None:
        lines.append(("error", report.error.message))
    return [{"level": level, "message": {"text": _text(text)}} for level, text in lines]
