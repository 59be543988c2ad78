"""From what the checks yielded to a `Report`: a pure function and its helpers. No I/O, no policy.

Whatever comes from the sandbox child is untrusted: numbers must be finite, strings encodable and
pictures small, or they are left out and a notice says so.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.artifacts.interface import Description, TensorInfo
from auditor.errors import AuditError
from auditor.findings import CheckResult, Finding, Json, finding_to_json
from auditor.report.model import (
    ArtifactFile,
    ArtifactRecord,
    Backdoor,
    CheckRecord,
    ErrorRecord,
    FigureRecord,
    FindingRecord,
    Report,
    SamplesRecord,
    SanitizedRecord,
    SuppressionRecord,
    Tensor,
    Text,
    Tool,
    clean_text,
)
from auditor.verdict import Decision
from auditor.version import __version__

MAX_IMAGE_BYTES = 1_600_000
"""All figures together, as base64: keeps the HTML file under 3 MB."""

_BAD = object()


class About(NamedTuple):
    """What a check says of itself: `Check.title` and `Check.doc`."""

    title: str
    doc: str


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a report is made of, besides the decision.

    `findings` are the active ones (after suppression, policy findings included), each with the
    name of the check that raised it; None takes them from `checks`. `metrics` adds to the scalars
    of the checks (``backdoor.probability``). `path` is as shown: never absolute.
    """

    path: str
    description: Description | None = None
    samples: SamplesRecord | None = None
    checks: Sequence[CheckResult] = ()
    about: Mapping[str, About] = field(default_factory=dict)
    findings: Sequence[tuple[str, Finding]] | None = None
    suppressions: Sequence[SuppressionRecord] = ()
    backdoor: Backdoor = field(default_factory=Backdoor)
    sanitized: SanitizedRecord | None = None
    metrics: Mapping[str, Json] = field(default_factory=dict)
    notices: Sequence[str] = ()
    policy: Mapping[str, Json] = field(default_factory=dict)
    environment: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0
    images: bool = True


def build_report(parts: Parts, decision: Decision) -> Report:
    """The report of an audited model. Never raises on what a check yielded."""
    notices = list(parts.notices)
    checks = [_check(result, parts.about, notices) for result in parts.checks]
    found = parts.findings
    if found is None:
        found = [(result.name, f) for result in parts.checks for f in result.findings]
    return Report(
        tool=Tool(version=__version__),
        artifact=artifact_record(parts.path, parts.description),
        samples=parts.samples,
        verdict=decision.verdict,
        exit_code=decision.exit_code,
        reasons=decision.reasons,
        backdoor=parts.backdoor,
        checks=tuple(checks),
        findings=tuple(sorted_findings(finding_record(f, check) for check, f in found)),
        suppressions=tuple(parts.suppressions),
        metrics=flat_metrics(parts.checks, parts.metrics, notices),
        sanitized=parts.sanitized,
        figures=_figures(parts, notices),
        notices=tuple(dict.fromkeys(notices)),
        policy=_clean_map(parts.policy),
        environment=_clean_map(parts.environment),
        seed=parts.seed,
        seconds=round(parts.seconds, 3),
    )


def build_error(
    path: str,
    error: AuditError,
    *,
    environment: Mapping[str, Json] | None = None,
    seed: int = 0,
) -> Report:
    """The report of a model that could not be audited at all: verdict incomplete, exit code 2."""
    return Report(
        tool=Tool(version=__version__),
        artifact=ArtifactRecord(path=path),
        verdict="incomplete",
        exit_code=2,
        reasons=(str(error),),
        environment=_clean_map(environment or {}),
        seed=seed,
        error=ErrorRecord(kind=error.kind, message=str(error)),
    )


def display_path(path: Path | str, base: Path | None = None) -> str:
    """`path` relative to `base` (default: the current folder) with ``/``; else its bare name."""
    resolved = Path(path).absolute()
    root = (base or Path.cwd()).absolute()
    if resolved.is_relative_to(root):
        return resolved.relative_to(root).as_posix()
    return resolved.name


def artifact_record(path: str, description: Description | None) -> ArtifactRecord:
    """Identity of the file; only the path when it could not be parsed."""
    if description is None:
        return ArtifactRecord(path=path)
    d = description
    return ArtifactRecord(
        path=path,
        format=d.format,
        sha256=d.sha256,
        bytes=d.files[0].bytes,
        producer=d.producer,
        opset=int(d.version) if d.version.isdecimal() else d.version,
        inputs=tuple(_tensor(t) for t in d.inputs),
        outputs=tuple(_tensor(t) for t in d.outputs),
        parameters=d.parameters,
        files=tuple(ArtifactFile(name=f.name, sha256=f.sha256, bytes=f.bytes) for f in d.files),
        operators=dict(d.operators),
        extra=dict(d.extra),
    )


def finding_record(finding: Finding, check: str | None = None) -> FindingRecord:
    """The finding as the report holds it."""
    return FindingRecord(check=check, **finding_to_json(finding))


_RANK = {word: rank for rank, word in enumerate(("critical", "high", "medium", "low", "info"))}


def sorted_findings(findings: Iterable[FindingRecord]) -> list[FindingRecord]:
    """Worst first; otherwise in the order they came, so that equal runs give equal reports."""
    return sorted(findings, key=lambda f: _RANK[f.severity])


def png_data_uri(pixels: NDArray[np.uint8]) -> str:
    """`pixels` uint8 (H, W) or (H, W, 3) as ``data:image/png;base64,...``.

    Raises ``ValueError`` or ``TypeError`` for another shape or dtype.
    """
    from PIL import Image

    grey_or_rgb = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not grey_or_rgb or 0 in pixels.shape:
        raise ValueError(f"a figure must be uint8 (H, W) or (H, W, 3), not {pixels.shape}")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def flat_metrics(
    checks: Sequence[CheckResult], extra: Mapping[str, Json], notices: list[str]
) -> dict[str, bool | int | float | str]:
    """Scalars of every check by dotted name, plus `extra`. The first of two equal names stays."""
    flat: dict[str, bool | int | float | str] = {}
    sources = [*((c.name, c.metrics) for c in checks), ("the audit", extra)]
    for source, metrics in sources:
        for name, raw in metrics.items():
            value = clean_json(raw)
            if value is _BAD or not isinstance(value, bool | int | float | str):
                continue
            if flat.setdefault(str(clean_text(name)), value) != value:
                notices.append(f"{source} measured {name} again and differently; the first stays.")
    return flat


def clean_json(value: Json) -> Json:
    """`value` as finite JSON (numpy scalars converted), or a sentinel that is no JSON type.

    None inside a mapping drops the key; None, NaN or infinity elsewhere spoil the whole value.
    """
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _BAD
    if isinstance(value, Mapping):
        kept = {str(clean_text(str(k))): clean_json(v) for k, v in value.items() if v is not None}
        return _BAD if any(v is _BAD for v in kept.values()) else kept
    if isinstance(value, list | tuple):
        items = [clean_json(v) for v in value]
        return _BAD if any(v is _BAD for v in items) else items
    return _BAD


def _clean_map(values: Mapping[str, Json]) -> dict[Text, Any]:
    cleaned = {str(clean_text(k)): clean_json(v) for k, v in values.items() if v is not None}
    return {k: v for k, v in cleaned.items() if v is not _BAD}


def _check(result: CheckResult, about: Mapping[str, About], notices: list[str]) -> CheckRecord:
    title, doc = about.get(result.name, About(result.name, ""))
    metrics = {str(clean_text(k)): clean_json(v) for k, v in result.metrics.items()}
    spoiled = [name for name, value in metrics.items() if value is _BAD]
    if spoiled:
        notices.append(f"{result.name}: no number for {', '.join(spoiled)}; left out.")
    return CheckRecord(
        name=result.name,
        status=result.status,  # type: ignore[arg-type]  # validated by pydantic
        reason=result.reason,
        seconds=round(result.seconds, 3),
        metrics={k: v for k, v in metrics.items() if v is not _BAD},
        title=title,
        doc=doc,
        notices=result.notices,
    )


def _tensor(tensor: TensorInfo) -> Tensor:
    shape = tensor.shape
    return Tensor(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=None if shape is None else tuple("?" if s is None else s for s in shape),
    )


def _figures(parts: Parts, notices: list[str]) -> tuple[FigureRecord, ...]:
    records: list[FigureRecord] = []
    spent = left_out = 0
    for result in parts.checks:
        for figure in result.figures:
            if figure.from_samples and not parts.images:
                continue
            try:
                image = png_data_uri(figure.pixels)
            except (ValueError, TypeError) as error:
                notices.append(f"{result.name}: figure {figure.name} left out ({error}).")
                continue
            if spent + len(image) > MAX_IMAGE_BYTES:
                left_out += 1
                continue
            spent += len(image)
            records.append(
                FigureRecord(
                    name=figure.name,
                    title=figure.title,
                    check=result.name,
                    image=image,
                    from_samples=figure.from_samples,
                )
            )
    if left_out:
        notices.append(f"{left_out} figures left out to keep the report small.")
    return tuple(records)
