"""`report.json`: the one report model every view is made from. Versioned; the keys are a contract.

Null stands in exactly four places (`NULLABLE`); any other unknown key is absent. No NaN, no
infinity, no absolute path. Strings may come from a hostile model: `Text` makes them encodable and
bounds their length, and every view escapes them for its own medium.
"""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from auditor.errors import UsageError

SCHEMA_VERSION = "1.0"
SCHEMA_ID = "https://model-auditor.invalid/schema/report-1.json"
NULLABLE = frozenset({"samples", "trigger", "sanitized", "probability"})
"""The keys that are null when there is nothing to say; all others are then absent."""

MAX_TEXT = 20_000

SeverityWord: TypeAlias = Literal["critical", "high", "medium", "low", "info"]
StatusWord: TypeAlias = Literal["passed", "flagged", "skipped", "incomplete"]
VerdictWord: TypeAlias = Literal["pass", "review", "fail", "incomplete"]


def clean_text(value: object) -> object:
    """A string that encodes as UTF-8 and is at most `MAX_TEXT` long; other values unchanged."""
    if not isinstance(value, str):
        return value
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT] + "…"
    return value.encode("utf-8", "replace").decode("utf-8")


def plain(value: Any) -> Any:
    """`value` as JSON that any reader takes: encodable strings, and NaN or infinity as a word."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(clean_text(str(key))): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return clean_text(value)


Json: TypeAlias = Annotated[Any, BeforeValidator(plain)]
Text: TypeAlias = Annotated[str, BeforeValidator(clean_text)]


class Record(BaseModel):
    """Base of every part: immutable, tolerant of keys a later minor version adds, no NaN."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    nullable: ClassVar[frozenset[str]] = NULLABLE

    @model_serializer(mode="wrap")
    def _absent_not_null(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        return {k: v for k, v in data.items() if v is not None or k in self.nullable}


class Tool(Record):
    """What made the report."""

    name: Text = "model-auditor"
    version: Text


class Tensor(Record):
    """An input or output; unknown sizes are the string ``"?"``; no `shape` when rank is unknown."""

    name: Text
    dtype: Text
    shape: tuple[int | Text, ...] | None = None


class ArtifactFile(Record):
    """One file of the artifact; `name` is relative to the model's folder."""

    name: Text
    sha256: Text
    bytes: int


class ArtifactRecord(Record):
    """Identity of the audited file. `opset` is the ONNX opset or the archive version.

    `path` is relative (or the bare name). Of an unreadable file only `path` is certain.
    """

    path: Text
    format: Text = "unknown"
    sha256: Text = ""
    bytes: int = 0
    producer: Text = ""
    opset: int | Text = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    parameters: int = 0
    files: tuple[ArtifactFile, ...] = ()
    operators: dict[Text, int] = Field(default_factory=dict)
    extra: dict[Text, Text] = Field(default_factory=dict)


class SamplesRecord(Record):
    """The labelled samples used. `classes` are display names by label, or empty."""

    source: Text
    count: int
    classes: tuple[Text, ...] = ()
    preprocessing: dict[Text, Json] = Field(default_factory=dict)
    clean_accuracy: float | None = None


class TriggerRecord(Record):
    """The strongest recovered trigger; `image` is a PNG data URI, absent with ``--no-images``."""

    family: Text
    size: float
    asr: float
    image: Text | None = None


class Backdoor(Record):
    """Backdoor evidence in one place.

    `probability` (of a backdoor in the weights, before looking at even odds) with its 95 %
    `interval`; `outside_calibration` are reasons not to trust the number. `calibration` says how it
    was made, or, where it is null, why there is none.
    """

    probability: float | None = None
    interval: tuple[float, float] | None = None
    outside_calibration: tuple[Text, ...] = ()
    calibration: Text = ""
    target_classes: tuple[int, ...] = ()
    trigger: TriggerRecord | None = None


class CheckRecord(Record):
    """How one check ended; `doc` is what it looks at and when it is wrong."""

    name: Text
    status: StatusWord
    reason: Text = ""
    seconds: float = 0.0
    metrics: dict[Text, Json] = Field(default_factory=dict)
    title: Text = ""
    doc: Text = ""
    notices: tuple[Text, ...] = ()


class FindingRecord(Record):
    """One thing a person should know. `check` names the check that raised it (or ``policy``)."""

    rule: Text
    severity: SeverityWord
    title: Text
    evidence: Text
    why: Text
    remedy: Text
    fingerprint: Text
    target_class: int | None = None
    location: Text | None = None
    cwe: Text | None = None
    blocks_run: bool | None = None
    check: Text | None = None


class SuppressionRecord(Record):
    """A finding that does not count: by policy (`kind` ``policy``) or as known (``baseline``)."""

    kind: Literal["policy", "baseline"]
    reason: Text
    expires: Text | None = None
    finding: FindingRecord


class SanitizedRecord(Record):
    """The repaired copy: `before` and `after` hold the same measures on held-out samples."""

    path: Text
    method: Text
    before: dict[Text, Json] = Field(default_factory=dict)
    after: dict[Text, Json] = Field(default_factory=dict)


class FigureRecord(Record):
    """A picture as a PNG data URI; `from_samples` ones are left out by ``--no-images``."""

    name: Text
    title: Text
    check: Text
    image: Text
    from_samples: bool = True


class ErrorRecord(Record):
    """Why nothing could be audited."""

    kind: Text
    message: Text


class Report(Record):
    """One audited model. Build with `auditor.report.build`, read with `load_report`."""

    schema_version: Text = SCHEMA_VERSION
    tool: Tool
    artifact: ArtifactRecord
    samples: SamplesRecord | None = None
    verdict: VerdictWord
    exit_code: int = Field(default=0, ge=0, le=3)
    reasons: tuple[Text, ...] = ()
    backdoor: Backdoor = Field(default_factory=Backdoor)
    checks: tuple[CheckRecord, ...] = ()
    findings: tuple[FindingRecord, ...] = ()
    suppressions: tuple[SuppressionRecord, ...] = ()
    metrics: dict[Text, bool | int | float | Text] = Field(default_factory=dict)
    sanitized: SanitizedRecord | None = None
    figures: tuple[FigureRecord, ...] = ()
    notices: tuple[Text, ...] = ()
    policy: dict[Text, Json] = Field(default_factory=dict)
    environment: dict[Text, Json] = Field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0
    error: ErrorRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as `report.json` holds them."""
        return self.model_dump(mode="json")

    def _repr_html_(self) -> str:
        """The HTML view in a sandboxed frame, for notebooks."""
        from auditor.report.registry import render

        page = html.escape(render(self, "html"), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="Audit report" '
            'style="width:100%;height:40rem;border:1px solid #888"></iframe>'
        )


class _Envelope(Record):
    """What stdout and `render_many` hold for several models."""

    reports: tuple[Report, ...]


def load_report(path: Path) -> Report:
    """Read a `report.json` of one model. Raises `UsageError` naming the first thing wrong."""
    reports = load_reports(path)
    if len(reports) != 1:
        raise UsageError(f"{path.name} holds {len(reports)} reports where one is wanted")
    return reports[0]


def load_reports(path: Path) -> tuple[Report, ...]:
    """Read a `report.json`, or the envelope of several. Raises `UsageError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the report {path.name}: {error.strerror}") from None
    try:
        return _Envelope.model_validate_json(data).reports
    except ValidationError:
        pass
    try:
        return (Report.model_validate_json(data),)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f" at {place}" if place else ""
        raise UsageError(f"{path.name} is not an audit report: {first['msg']}{where}") from None


def report_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of `report.json`; see ``schema/report-1.json``."""
    schema = Report.model_json_schema(mode="validation")
    for part in (schema, *schema["$defs"].values()):
        properties = part["properties"]
        optional = {
            name
            for name, value in properties.items()
            if name not in NULLABLE and value.get("default", ...) is None
        }
        for name in optional:
            properties[name] = _without_null(properties[name])
        part["required"] = [name for name in properties if name not in optional]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
    }


def _without_null(value: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key that is absent when unknown: it allows no null and has no default."""
    options = [option for option in value["anyOf"] if option != {"type": "null"}]
    rest = {k: v for k, v in value.items() if k not in ("anyOf", "default")}
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}
