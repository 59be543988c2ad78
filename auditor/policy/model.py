"""The policy file's contents: ``audit.toml`` at top level, or ``[tool.audit]`` in pyproject."""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from auditor.findings import Finding, Severity

SeverityWord: TypeAlias = Literal["critical", "high", "medium", "low", "info"]

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_EXPRESSION = re.compile(r"\s*([\w.@:+-]+)\s*(>=|<=|==|!=|>|<)\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Threshold:
    """``accuracy.clean >= 0.97``: a metric by dotted name, a comparison and a number."""

    metric: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Raises ``ValueError`` with a sentence for anything else."""
        match = _EXPRESSION.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            return cls(match[1], match[2], float(match[3]))
        except ValueError:
            raise ValueError(
                f"{text!r} is no threshold; write: metric.name >= 0.97 "
                f"(comparisons: {', '.join(_OPERATORS)})"
            ) from None

    def holds(self, value: float) -> bool:
        """Whether the measured `value` is acceptable."""
        return _OPERATORS[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.bound:g}"


def _threshold(text: str) -> str:
    Threshold.parse(text)
    return text


class Part(BaseModel):
    """Immutable; an unknown key is an error, so that a typing mistake never weakens a gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Suppression(Part):
    """Findings that do not count until a date. All keys given must match."""

    rule: Annotated[str, Field(min_length=1, description="rule id or pattern (`graph.*`)")]
    reason: Annotated[str, Field(min_length=1, description="why it is acceptable; for the reader")]
    expires: Annotated[
        datetime.date, Field(description="last day it holds (`2027-01-31`); afterwards it fails")
    ]
    path: Annotated[str, Field(description="pattern for the model's path as reported")] = "*"
    location: Annotated[str | None, Field(description="exact place inside the model")] = None
    target_class: Annotated[int | None, Field(description="class the finding names")] = None
    fingerprint: Annotated[str | None, Field(description="one exact finding")] = None

    def covers(self, finding: Finding, path: str) -> bool:
        """Whether `finding` of the model at `path` is meant (whatever the date)."""
        pairs = (
            (self.location, finding.location),
            (self.target_class, finding.target_class),
            (self.fingerprint, finding.fingerprint),
        )
        return (
            fnmatchcase(finding.rule, self.rule)
            and fnmatchcase(path, self.path)
            and all(wanted is None or wanted == got for wanted, got in pairs)
        )


class Policy(Part):
    """The whole file. Every key is optional; an empty policy is the default behaviour."""

    fail_on: Annotated[
        Literal["critical", "high", "medium", "low", "never"],
        Field(description="exit 1 for a finding at or above this severity"),
    ] = "high"
    budget: Annotated[
        float | None, Field(strict=True, gt=0, description="seconds for the behaviour checks")
    ] = None
    required: Annotated[
        tuple[str, ...], Field(description="checks that must have run; otherwise exit 3")
    ] = ()
    thresholds: Annotated[
        tuple[Annotated[str, AfterValidator(_threshold)], ...],
        Field(description="what metrics must satisfy; one that fails is a finding"),
    ] = ()
    threshold_severity: Annotated[
        SeverityWord, Field(description="severity of a threshold that fails")
    ] = "high"
    severities: Annotated[
        dict[str, SeverityWord],
        Field(description="severity by rule id or pattern; the exact id goes first"),
    ] = {}
    suppress: Annotated[
        tuple[Suppression, ...], Field(description="findings that do not count, with reason")
    ] = ()
    baseline: Annotated[
        str | None,
        Field(description="earlier report.json, relative to this file: only new findings count"),
    ] = None

    @property
    def gate(self) -> Severity | None:
        """`fail_on` for `auditor.verdict.decide`; None is never."""
        return None if self.fail_on == "never" else Severity.parse(self.fail_on)

    def severity_of(self, rule: str) -> Severity | None:
        """The severity the policy gives `rule`, or None to keep the check's own."""
        if rule in self.severities:
            return Severity.parse(self.severities[rule])
        for pattern, word in self.severities.items():
            if fnmatchcase(rule, pattern):
                return Severity.parse(word)
        return None

    def with_flags(self, *, fail_on: str | None = None, budget: float | None = None) -> Policy:
        """Command-line flags beat the file; None leaves what the file says."""
        given = {"fail_on": fail_on, "budget": budget}
        changes = {key: value for key, value in given.items() if value is not None}
        return Policy.model_validate({**self.model_dump(), **changes})

    def to_json(self, source: str) -> dict[str, Any]:
        """The effective policy for the report; `source` is the file's name or ``default``."""
        return {"source": source, **self.model_dump(mode="json", exclude_none=True)}
