"""What a check may yield: findings, metrics, figures and notices. All frozen, all JSON-able.

Every string here may contain text that came from a hostile model. Renderers escape it; nothing in
this module interprets it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Json: TypeAlias = Any  # None, bool, int, float, str, or lists and string-keyed maps of these


class Severity(IntEnum):
    """Ordered: ``Severity.HIGH > Severity.MEDIUM``."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        """The lower-case word used in reports and on the command line."""
        return self.name.lower()

    @classmethod
    def parse(cls, word: str) -> Self:
        """Inverse of `word`; raises ``KeyError`` for an unknown word."""
        return cls[word.upper()]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about this model.

    `rule` is the stable identifier (``graph.trigger``, ``probe.trigger``), `evidence` is what was
    seen, `why` is the consequence, `remedy` what to do, `location` a node path, archive member or
    code line. `blocks_run` says that loading or running the artifact would act on the machine, so
    dynamic checks do not start unless ``--run-anyway``.
    """

    rule: str
    severity: Severity
    title: str
    evidence: str
    why: str
    remedy: str
    target_class: int | None = None
    location: str | None = None
    cwe: str | None = None
    blocks_run: bool = False

    @property
    def fingerprint(self) -> str:
        """Stable across runs and across retraining: rule, place and target, never the content."""
        key = f"{self.rule}|{self.location or ''}|{self.target_class}"
        return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number (or small table) under a dotted name, such as ``robustness.fgsm@0.1``.

    Scalars (int, float, bool, str) enter the report's flat ``metrics`` map and can be named by a
    policy; lists and mappings stay with their check. Never NaN or infinite: leave it out instead.
    """

    name: str
    value: Json


@dataclass(frozen=True, slots=True)
class Figure:
    """A small picture: `pixels` is uint8, (H, W) grey or (H, W, 3) RGB.

    `from_samples` marks pictures made of the user's own samples, left out by ``--no-images``.
    """

    name: str
    title: str
    pixels: NDArray[np.uint8]
    from_samples: bool = True


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the reader that is no finding: what was left out, assumed or inferred."""

    text: str


Outcome: TypeAlias = Finding | Metric | Figure | Notice


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check ended. `status` is passed, flagged, skipped or incomplete."""

    name: str
    status: str
    reason: str
    seconds: float
    findings: tuple[Finding, ...] = ()
    metrics: Mapping[str, Json] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    notices: tuple[str, ...] = ()


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """The finding as it stands in ``report.json``; absent keys rather than nulls."""
    record: dict[str, Any] = {
        "rule": finding.rule,
        "severity": finding.severity.word,
        "title": finding.title,
        "evidence": finding.evidence,
        "why": finding.why,
        "remedy": finding.remedy,
        "fingerprint": finding.fingerprint,
    }
    for key in ("target_class", "location", "cwe"):
        value = getattr(finding, key)
        if value is not None:
            record[key] = value
    if finding.blocks_run:
        record["blocks_run"] = True
    return record


def finding_from_json(record: Mapping[str, Any]) -> Finding:
    """Inverse of `finding_to_json`; ``KeyError``/``ValueError``/``TypeError`` on bad input."""
    target = record.get("target_class")
    return Finding(
        rule=str(record["rule"]),
        severity=Severity.parse(str(record["severity"])),
        title=str(record["title"]),
        evidence=str(record["evidence"]),
        why=str(record["why"]),
        remedy=str(record["remedy"]),
        target_class=None if target is None else int(target),
        location=None if record.get("location") is None else str(record["location"]),
        cwe=None if record.get("cwe") is None else str(record["cwe"]),
        blocks_run=bool(record.get("blocks_run", False)),
    )
