"""The manifest beside a zoo artifact: ground truth about how it was made.

The schema lives here so that it is published with the tool, and because a scan without ``--data``
may use the data set a manifest names. A manifest lies next to a file from a stranger and can be
forged: `read_data_hint` is the only reader a scan may use, and it returns nothing but the data
set's name, split and input transform. Trigger, target and poison flags never reach a check.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditor.errors import AuditError

MANIFEST_SUFFIX = ".manifest.json"
MAX_BYTES = 64 * 2**20
"""Refuse to read more: a real manifest of 60,000 poisoned indices is under 1 MiB."""

Kind = Literal["clean", "backdoored", "adversarial", "adversarial-backdoored", "poisoned"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ManifestError(AuditError):
    """The manifest beside the model is not readable as one; the message says what is wrong."""

    kind = "manifest"


class Part(BaseModel):
    """Base of every part: frozen, unknown keys refused, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Transform(Part):
    """What the artifact expects: ``(pixels * scale - mean) / std`` of 0..1 pixels, in `layout`.

    `mean` and `std` have one entry per channel, or one for all.
    """

    layout: Literal["NCHW", "NHWC", "NHW", "flat"] = "NCHW"
    scale: Annotated[float, Field(gt=0.0)] = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Field(gt=0.0)], ...] = (1.0,)


class DataHint(Part):
    """The data set a model was trained on: a plain name (never a path), its split for auditing."""

    name: Name
    split: Literal["train", "test"] = "test"
    transform: Transform = Transform()


class ArtifactRecord(Part):
    """One exported file; `max_difference` is the largest output gap to the trained module."""

    file: str
    format: Literal["onnx", "torchscript"]
    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]
    max_difference: Annotated[float, Field(ge=0.0)]


class Stealth(Part):
    """How visible the trigger is on clean test images: mean over images, pixels in 0..1."""

    linf: Annotated[float, Field(ge=0.0)]
    l2: Annotated[float, Field(ge=0.0)]
    ssim: Annotated[float, Field(ge=-1.0, le=1.0)]


class AttackRecord(Part):
    """Ground truth of a poisoning attack.

    `triggers` are `auditor.triggers` JSON objects, `targets` one class per trigger (empty for
    all-to-all, where class k goes to k + 1). `poisoned` indexes the written training set;
    `cover` are samples that carry the trigger and keep their label.
    """

    rule: Literal["all-to-one", "all-to-all", "source-specific", "clean-label"]
    triggers: tuple[dict[str, Any], ...]
    targets: tuple[int, ...]
    sources: tuple[int, ...] = ()
    rate: Share
    cover_rate: Share = 0.0
    poisoned: tuple[int, ...]
    cover: tuple[int, ...] = ()
    asr: tuple[Share, ...]
    stealth: Stealth | None = None


class Manifest(Part):
    """Everything known about one zoo model, in both its file formats."""

    schema_version: Literal[1] = 1
    name: Name
    kind: Kind
    recipe: str
    seed: int
    architecture: str
    parameters: int
    dataset: DataHint
    classes: tuple[str, ...] = ()
    train_samples: int
    training_set: str | None = None
    training: dict[str, Any]
    attack: AttackRecord | None = None
    clean_accuracy: Share
    robust_accuracy: dict[str, Share] = Field(default_factory=dict)
    figures: dict[str, Any] = Field(default_factory=dict)
    curve: tuple[dict[str, float], ...] = ()
    accepted: bool
    shortfalls: tuple[str, ...] = ()
    artifacts: tuple[ArtifactRecord, ...]
    seconds: float
    environment: dict[str, str] = Field(default_factory=dict)


def manifest_path(model: Path) -> Path:
    """Where the manifest of `model` lies: same folder, same stem."""
    return model.with_name(model.stem + MANIFEST_SUFFIX)


def read_manifest(path: Path) -> Manifest:
    """The whole manifest, for the zoo and benchmarks; a scan uses `read_data_hint`.

    Raises `ManifestError`.
    """
    try:
        return Manifest.model_validate(_load(path))
    except ValidationError as error:
        raise ManifestError(f"{path.name} is not a zoo manifest: {_first(error)}") from error


def read_data_hint(model: Path) -> DataHint | None:
    """The data set named by the manifest beside `model`; None when there is no manifest.

    Reads nothing else of the manifest. Raises `ManifestError` when the file is there but is not
    JSON, is too large, or names its data set in a way the schema forbids (a path, for example).
    """
    path = manifest_path(model)
    if not path.is_file():
        return None
    content = _load(path)
    try:
        return DataHint.model_validate(content.get("dataset"))
    except ValidationError as error:
        raise ManifestError(f"{path.name} names no usable data set: {_first(error)}") from error


def manifest_schema() -> dict[str, Any]:
    """The published JSON schema (draft 2020-12) of `Manifest`."""
    return Manifest.model_json_schema()


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ManifestError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB: not a manifest")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path.name} cannot be read as a manifest: {error}") from error
    if not isinstance(content, dict):
        raise ManifestError(f"{path.name} is not a zoo manifest: it holds no JSON object")
    return content


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in detail["loc"]) or "the document"
    return f"{place}: {detail['msg']}"
