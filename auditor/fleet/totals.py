"""The numbers over a whole fleet: what the gate decides on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from auditor.fleet.rows import Row
from auditor.report.summary import SEVERITIES
from auditor.verdict import overall_exit

VERDICTS = ("fail", "review", "incomplete", "pass", "unreadable")
"""In the index a model that could not be read or had at all is ``unreadable``."""


@dataclass(slots=True)
class Totals:
    """Counted row by row. `pending` models were not reached (--budget); `known` had their result
    from an earlier run; `passed` files were no models."""

    models: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    failed: int = 0
    pending: int = 0
    unsupported: int = 0
    known: int = 0
    passed: int = 0
    seconds: float = 0.0

    def add(self, row: Row, summary: dict[str, Any] | None, *, skip_unsupported: bool) -> None:
        """One more model."""
        self.models += 1
        self.verdicts[verdict_of(row, summary)] += 1
        code = exit_code_of(row, summary)
        if summary is not None:
            self.formats[str(summary["format"])] += 1
            for word in SEVERITIES:
                self.findings[word] += int(summary["counts"][word])
            self.rules.update(summary["rules"])
            if summary["error"] == "unsupported":
                self.unsupported += 1
                code = 0 if skip_unsupported else code
        self.lost += row.state == "lost"
        self.failed += row.state == "failed"
        self.pending += row.state == "pending"
        self.codes[code] += 1

    @property
    def exit_code(self) -> int:
        """As for a scan of several models: the worst in the order 1, 2, 3, 0."""
        return overall_exit(self.codes)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "models": self.models,
            "verdicts": {word: self.verdicts[word] for word in VERDICTS},
            "findings": {word: self.findings[word] for word in SEVERITIES},
            "formats": dict(sorted(self.formats.items())),
            "exit_codes": {str(code): self.codes[code] for code in (0, 1, 2, 3)},
            "unsupported": self.unsupported,
            "lost": self.lost,
            "failed": self.failed,
            "not_reached": self.pending,
            "from_earlier_runs": self.known,
            "files_passed_over": self.passed,
            "rules": dict(self.rules.most_common(30)),
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
        }


def verdict_of(row: Row, summary: dict[str, Any] | None) -> str:
    """One of `VERDICTS`."""
    if summary is not None:
        return "unreadable" if summary["error"] else str(summary["verdict"])
    return "unreadable" if row.state == "failed" else "incomplete"


def exit_code_of(row: Row, summary: dict[str, Any] | None) -> int:
    """2 for what could not be had, 3 for what was lost or not reached."""
    if summary is not None:
        return int(summary["exit_code"])
    return 2 if row.state == "failed" else 3


def reason_of(row: Row, summary: dict[str, Any] | None) -> str:
    """Why, in one sentence: the worst finding, the error, or what kept it from being audited."""
    if summary is not None:
        return str(summary["worst"] or summary["reason"])
    return "not reached before --budget was used up" if row.state == "pending" else row.reason
