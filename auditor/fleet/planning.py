"""What there is to do: every model the sources hold, and which of them have their result already.

Runs before the first audit, streams, and leaves everything in the store: that is the state a killed
run resumes from.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.artifacts.digest import digest_file
from auditor.errors import AuditError
from auditor.fleet import keys
from auditor.fleet.discovery import stamp_of
from auditor.fleet.interface import Found, Passed, Sighting, SourceError, Unfound
from auditor.fleet.redact import redacted, shown_url
from auditor.fleet.rows import Key, Row
from auditor.fleet.sources.local import LocalSource
from auditor.fleet.sources.registry import open_source
from auditor.fleet.store import Store

if TYPE_CHECKING:
    from auditor.options import ScanOptions

_BATCH = 200


@dataclass(slots=True)
class Circumstances:
    """Three of the four parts of a result's key, worked out once a run."""

    options: ScanOptions
    samples: str
    configuration: str
    tool: str
    by_place: bool
    hints: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, options: ScanOptions) -> Circumstances:
        """Raises `AuditError` when the samples cannot be read."""
        today = datetime.datetime.now(datetime.UTC).date()
        return cls(
            options,
            keys.samples_key(options),
            keys.configuration_key(options, today),
            keys.tool_key(),
            keys.place_matters(options),
        )

    def key(self, artifact: str, path: str, uri: str) -> Key:
        """The address of the result of `artifact` found at `path` (local) and `uri`."""
        samples = self.samples
        hinted = self.options.profile == "full" and self.options.data is None
        if hinted and Path(path).is_absolute():
            samples = keys.hinted_key(Path(path), self.options, self.hints)
        return Key(artifact, samples, self.configuration, self.tool, uri if self.by_place else "")

    @property
    def about(self) -> str:
        """One digest of all of it: under which circumstances a model was lost."""
        text = "\0".join((self.samples, self.configuration, self.tool))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(slots=True)
class Plan:
    """What was seen: models by what is to be done, files that are none."""

    models: int = 0
    known: int = 0
    passed: int = 0
    secrets: dict[str, str] = field(default_factory=dict)
    """Sources as written, by what of them may be stored: only where the two differ."""


def plan(
    sources: Sequence[str],
    store: Store,
    run: int,
    about: Circumstances,
    *,
    retry: bool,
    told: Callable[[int], None] = lambda count: None,
) -> Plan:
    """Look through `sources` and write every model into the store. Raises `AuditError` for a source
    the user named that is missing, or when all of them hold no model."""
    found = Plan()
    sightings = _sightings(sources, store)
    while batch := list(islice(sightings, _BATCH)):
        with store.transaction():
            for sighting in batch:
                _note(sighting, store, run, about, found, retry)
        told(found.models)
    if not found.models:
        raise SourceError(_nothing(sources, found))
    return found


def _sightings(sources: Sequence[str], store: Store) -> Iterator[Sighting]:
    """Of every source; one that is remote and does not answer is an entry, not the end."""
    for text in sources:
        source = open_source(text)
        try:
            yield from source.find(store.recognised)
        except AuditError as error:
            if len(sources) == 1 or isinstance(source, LocalSource):
                raise
            yield Unfound(shown_url(text) if "://" in text else text, redacted(str(error)))


def _note(
    sighting: Sighting, store: Store, run: int, about: Circumstances, found: Plan, retry: bool
) -> None:
    if isinstance(sighting, Passed):
        found.passed += 1
        return
    if isinstance(sighting, Unfound):
        found.models += store.plan(
            run, sighting.uri, "", "", 0, "", True, "failed", kind="source", reason=sighting.reason
        )
        return
    before = store.model(sighting.uri)
    artifact = _artifact(sighting, before, store)
    result = store.lookup(about.key(artifact, sighting.path, sighting.uri)) if artifact else None
    state, reason, kind = ("done" if result else "pending"), "", ""
    if before is not None and before.state == "lost" and not retry and not result:
        same = before.stamp == sighting.stamp and before.about == about.about
        if same and sighting.stamp:
            state, reason, kind = "lost", before.reason, before.kind
    origin, path = _without_secrets(sighting, found)
    fresh = store.plan(
        run, sighting.uri, origin, path, sighting.size, sighting.stamp, sighting.sure, state,
        artifact=artifact if result else (before.artifact if before else ""), result=result,
        kind=kind, reason=reason, about=about.about,
    )  # fmt: skip
    found.models += fresh
    found.known += fresh and state != "pending"


def _without_secrets(sighting: Found, found: Plan) -> tuple[str, str]:
    """What may be stored of a place. The rest stays in memory and goes to the workers only."""
    parts = []
    for text in (sighting.origin, sighting.path):
        bare = shown_url(text) if "://" in text and not text.startswith("/") else text
        if bare != text:
            bare = f"{bare} #{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            found.secrets[bare] = text
        parts.append(bare)
    return parts[0], parts[1]


def _artifact(sighting: Found, before: Row | None, store: Store) -> str:
    """The artifact's key if it can be had without auditing it; empty otherwise."""
    local = Path(sighting.path) if Path(sighting.path).is_absolute() else None
    if before is not None and before.artifact and _unchanged(sighting, before, local):
        return before.artifact
    if local is None or not store.has_size(sighting.size):
        return ""
    try:
        main = digest_file(local).sha256
        names = store.names_of(main)
        if names is None:
            return ""
        files = [(local.name, main)]
        files += [(name, digest_file(local.parent / name).sha256) for name in names]
    except AuditError:
        return ""
    return keys.artifact_key(files)


def _unchanged(sighting: Found, before: Row, local: Path | None) -> bool:
    """Whether the stamps of all its files are what they were when they were hashed.

    External data of a remote model has no stamp here: its worker compares the bytes.
    """
    if not sighting.stamp or before.stamp != sighting.stamp:
        return False
    others = before.files[1:]
    if local is None:
        return not others
    try:
        return all(stamp_of((local.parent / name).stat()) == stamp for name, stamp, _ in others)
    except OSError:
        return False


def _nothing(sources: Sequence[str], found: Plan) -> str:
    named = ", ".join(redacted(s) for s in sources[:3]) + (", ..." if len(sources) > 3 else "")
    passed = f" ({found.passed} other files were passed over)" if found.passed else ""
    return f"there is no model in {named}{passed}: models are ONNX, TorchScript and .pt2 files"
