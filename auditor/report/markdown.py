"""Markdown for a pull-request comment: short, collapsible, and inert.

Every string of the report is escaped for GitHub's dialect: no HTML, links, tables, images, mentions
or issue references can come out of a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from auditor.report.interface import Format
from auditor.report.model import Report
from auditor.report.series import Curve, charts
from auditor.report.summary import (
    LIMITS,
    backdoor_sentence,
    counts_sentence,
    coverage_sentence,
    finding_place,
    headline,
    probability_sentence,
)
from auditor.report.text import number, percent, size, visible

MARK = {"pass": "✅", "review": "🟡", "fail": "❌", "incomplete": "⚠️"}
_SPECIAL = frozenset("\\`*_{}[]()<>#|&@:~!$\"'")
_LIST_START = re.compile(r"([-+=]|\d+[.)])")


class MarkdownFormat(Format):
    """GitHub-flavoured; starts with an HTML comment by which a bot finds its former comment."""

    name = "markdown"
    title = "Markdown, for a pull request"
    filename = "report.md"

    def render(self, report: Report) -> str:
        """One model."""
        return self.render_many([report])

    def render_many(self, reports: Sequence[Report]) -> str:
        """Several models: a table first, then each."""
        parts = ["<!-- model-auditor -->"]
        if len(reports) > 1:
            parts += ["## Model audit", *_overview(reports)]
        for report in reports:
            parts += _report(report)
        return "\n\n".join(parts) + "\n"


def escape(text: str, limit: int | None = None) -> str:
    """`text` as inert inline Markdown on one line."""
    out: list[str] = []
    for character in visible(text, limit):
        if character in "@#":  # the empty comment keeps GitHub from linking users and issues
            out.append(f"&#{ord(character)};<!-- -->")
        elif character in _SPECIAL:
            out.append(f"&#{ord(character)};")
        else:
            out.append(character)
    inline = "".join(out)
    start = _LIST_START.match(inline)
    if start is None:
        return inline
    mark = start.end() - 1
    return f"{inline[:mark]}&#{ord(inline[mark])};{inline[mark + 1 :]}"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(columns)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _overview(reports: Sequence[Report]) -> list[str]:
    rows = (
        (
            f"{MARK[r.verdict]} {r.verdict}",
            escape(r.artifact.path, 200),
            escape(r.error.message if r.error else backdoor_sentence(r), 300),
            counts_sentence(r),
        )
        for r in reports
    )
    return [_table(("verdict", "model", "backdoor", "findings"), rows)]


def _report(report: Report) -> Iterator[str]:
    head = headline(report)
    yield f"### {MARK[head.verdict]} {head.verdict}: {escape(report.artifact.path, 200)}"
    yield f"**{head.sentence}**"
    if head.reasons:
        yield "**Why**\n\n" + "\n".join(f"- {escape(line, 600)}" for line in head.reasons)
    if head.actions:
        yield "**What to do**\n\n" + "\n".join(f"- {escape(line, 600)}" for line in head.actions)
    if report.error is not None:
        return
    if report.findings:
        rows = (
            (
                f.severity,
                escape(f.rule, 80),
                f"**{escape(f.title, 300)}**<br>{escape(f.evidence, 600)}",
                escape(finding_place(report, f), 200),
            )
            for f in report.findings
        )
        yield _table(("severity", "rule", "what was seen", "where"), rows)
    for part in (_suppressed(report), _checks(report), _robustness(report), _sanitized(report)):
        if part:
            yield part
    yield _identity(report)


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _suppressed(report: Report) -> str:
    if not report.suppressions:
        return ""
    rows = (
        (
            escape(s.finding.rule, 80),
            escape(s.finding.title, 200),
            escape(s.reason),
            escape(s.expires or ""),
        )
        for s in report.suppressions
    )
    title = f"{len(report.suppressions)} suppressed"
    return _details(title, _table(("rule", "finding", "reason", "until"), rows))


def _checks(report: Report) -> str:
    rows = (
        (escape(c.name, 80), c.status, f"{c.seconds:.1f}", escape(c.reason, 300))
        for c in report.checks
    )
    return _details(
        coverage_sentence(report), _table(("check", "status", "seconds", "reason"), rows)
    )


def _robustness(report: Report) -> str:
    curves = [c for check in report.checks for c in charts(check) if isinstance(c, Curve)]
    rows = [
        (escape(s.name, 80), number(x), percent(y), f"{percent(low)} to {percent(high)}")
        for curve in curves
        for s in curve.series
        for x, y, low, high in s.points[:12]
    ]
    if not rows:
        return ""
    return _details("Robustness", _table(("attack", "strength", "accuracy", "interval"), rows))


def _sanitized(report: Report) -> str:
    s = report.sanitized
    if s is None:
        return ""
    rows = (
        (
            escape(key, 80),
            escape(number(s.before.get(key, ""))),
            escape(number(s.after.get(key, ""))),
        )
        for key in dict.fromkeys((*s.before, *s.after))
    )
    caption = f"Sanitized copy: {escape(s.path, 200)} (method: {escape(s.method, 80)})"
    return f"{caption}\n\n{_table(('measure', 'before', 'after'), rows)}"


def _identity(report: Report) -> str:
    a = report.artifact
    lines = [
        f"- {escape(a.format)}, {size(a.bytes)}"
        + (f", {a.parameters:,} parameters\n- SHA-256 {escape(a.sha256)}" if a.sha256 else ""),
        f"- backdoor: {escape(backdoor_sentence(report))}",
        *([f"- {escape(said)}"] if (said := probability_sentence(report)) else []),
        f"- {report.tool.name} {report.tool.version}, seed {report.seed}, {report.seconds:.1f} s",
    ]
    command = report.environment.get("command")
    if isinstance(command, str):
        lines.append(f"- reproduce: {escape(command, 500)}")
    limits = "\n".join(f"- {line}" for line in LIMITS)
    return _details("About this audit and its limits", "\n".join(lines) + "\n\n" + limits)
