"""JUnit XML: one suite a model, one case a check, so that a CI shows the audit as tests.

A case fails when its check raised a finding at or above the policy's ``fail_on``; smaller findings
stand in its output. The dialect is the subset that Jenkins' xunit accepts.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

from auditor.findings import Severity
from auditor.report.interface import Format
from auditor.report.model import CheckRecord, FindingRecord, Report
from auditor.report.text import visible

_GATES = {severity.word: severity for severity in Severity}
"""``never`` and anything unknown is no gate."""


class JunitFormat(Format):
    """``<testsuites>`` with the totals."""

    name = "junit"
    title = "JUnit XML, for CI test views"
    filename = "report.junit.xml"

    def render(self, report: Report) -> str:
        """One suite."""
        return self.render_many([report])

    def render_many(self, reports: Sequence[Report]) -> str:
        """A suite a model."""
        root = Element("testsuites", name="audit")
        for report in reports:
            root.append(_suite(report))
        for word in ("tests", "failures", "errors", "skipped"):
            root.set(word, str(sum(int(suite.get(word, "0")) for suite in root)))
        root.set("time", f"{sum(report.seconds for report in reports):.3f}")
        ElementTree.indent(root)
        body = ElementTree.tostring(root, encoding="unicode")
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _suite(report: Report) -> Element:
    path = visible(report.artifact.path)
    suite = Element("testsuite", name=path, time=f"{report.seconds:.3f}")
    properties = SubElement(suite, "properties")
    for name, value in (
        ("verdict", report.verdict),
        ("sha256", report.artifact.sha256),
        ("tool", f"{report.tool.name} {report.tool.version}"),
    ):
        SubElement(properties, "property", name=name, value=value)
    gate = _GATES.get(str(report.policy.get("fail_on", "high")))
    names = [check.name for check in report.checks]
    for check in report.checks:
        mine = [f for f in report.findings if f.check == check.name]
        _case(suite, path, check, mine, gate)
    others = [f for f in report.findings if f.check not in names]
    if others:
        policy = CheckRecord(name="policy", status="flagged")
        _case(suite, path, policy, others, gate)
    if report.error is not None:
        case = SubElement(suite, "testcase", classname=f"audit.{path}", name="open", time="0.000")
        SubElement(case, "error", message=visible(report.error.message), type=report.error.kind)
    suite.set("tests", str(len(suite.findall("testcase"))))
    for word, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(word, str(len(suite.findall(f"testcase/{tag}"))))
    return suite


def _case(
    suite: Element,
    path: str,
    check: CheckRecord,
    findings: Sequence[FindingRecord],
    gate: Severity | None,
) -> None:
    case = SubElement(
        suite,
        "testcase",
        classname=f"audit.{path}",
        name=visible(check.name),
        time=f"{check.seconds:.3f}",
    )
    failing = [f for f in findings if gate is not None and Severity.parse(f.severity) >= gate]
    text = "\n".join(_line(f) for f in findings)
    if failing:
        failure = SubElement(
            case, "failure", message=visible(failing[0].title), type=visible(failing[0].rule)
        )
        failure.text = text
    elif check.status == "incomplete":
        SubElement(case, "error", message=visible(check.reason), type="incomplete")
    elif check.status == "skipped":
        SubElement(case, "skipped", message=visible(check.reason))
    elif text:
        SubElement(case, "system-out").text = text


def _line(f: FindingRecord) -> str:
    return visible(f"{f.severity} {f.rule}: {f.title}. {f.evidence} {f.remedy}")
