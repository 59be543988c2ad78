"""By what a result is found again: artifact, sample set, configuration, tool version.

All four are SHA-256 over content, computed here in the trusted process and never taken from what a
model's process says: a hostile model could otherwise file its own report under another's name.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.artifacts.digest import digest_file
from auditor.errors import AuditError
from auditor.samples.readers import NAMED, default_root
from auditor.version import __version__

if TYPE_CHECKING:
    from auditor.options import ScanOptions

NO_SAMPLES = "none"

_NOT_CONFIGURATION = frozenset(
    (
        *("data", "data_root", "train_data", "out", "command", "notices", "jobs", "download"),
        *("policy", "policy_source", "baseline", "images"),
    )
)


def artifact_key(files: Sequence[tuple[str, str]]) -> str:
    """Of (name, sha256) pairs, the model file first; its own name does not count, those of the
    external data beside it do."""
    main, *others = files
    text = json.dumps([main[1], sorted(others)])
    return hashlib.sha256(text.encode()).hexdigest() if others else main[1]


def configuration_key(options: ScanOptions, today: datetime.date) -> str:
    """Of everything a report depends on besides the model, the samples and the tool.

    Suppressions that have expired by `today` are left out, so that a result made under one is not
    found any more the day after.
    """
    told = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in _NOT_CONFIGURATION
    }
    policy: dict[str, Any] = {}
    if options.policy is not None:
        kept = tuple(s for s in options.policy.suppress if s.expires >= today)
        policy = options.policy.model_copy(update={"suppress": kept}).model_dump(mode="json")
    known = sorted(map(repr, options.baseline.known.items())) if options.baseline else []
    text = json.dumps([told, policy, known], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def place_matters(options: ScanOptions) -> bool:
    """Whether the policy or its baseline names paths: then one content at two places is two."""
    if options.baseline is not None:
        return True
    return options.policy is not None and any(s.path != "*" for s in options.policy.suppress)


def tool_key() -> str:
    """Our version and every plug-in check's with its distribution's version."""
    from importlib.metadata import PackageNotFoundError, version

    from auditor.checks.registry import all_checks

    parts = [f"model-auditor {__version__}"]
    for registered in all_checks()[0]:
        if registered.origin != "model-auditor":
            try:
                stated = version(registered.origin)
            except PackageNotFoundError:
                stated = "?"
            parts.append(f"{registered.check.name} of {registered.origin} {stated}")
    return "; ".join(parts)


def samples_key(options: ScanOptions) -> str:
    """Of the samples and the training set the user named; `NO_SAMPLES` when none are used.

    Raises `AuditError` when they cannot be read.
    """
    if options.profile != "full":
        return NO_SAMPLES
    parts = [
        f"{word}:{data_key(source, options)}"
        for word, source in (("data", options.data), ("train", options.train_data))
        if isinstance(source, str | Path)
    ]
    if not parts:
        return NO_SAMPLES
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def data_key(source: str | Path, options: ScanOptions) -> str:
    """Of the bytes of a data set: all its files with their names, streamed."""
    name = str(source)
    if name == "digits":
        return "digits"  # comes with scikit-learn
    if name in NAMED:
        root = options.data_root or default_root()
        places = sorted(p for p in _entries(root) if p.name.lower().startswith(name))
    else:
        places = [Path(source)]
    digest = hashlib.sha256()
    for place in places:
        files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        for file in files:
            inside = file.relative_to(place).as_posix()
            digest.update(f"{inside}\0{digest_file(file).sha256}\n".encode())
    return digest.hexdigest()


def hinted_key(model: Path, options: ScanOptions, cache: dict[str, str]) -> str:
    """Of the data set the manifest beside a local `model` names, as a scan without --data uses."""
    from auditor.manifest import read_data_hint

    try:
        hint = read_data_hint(model)
    except AuditError:
        return NO_SAMPLES
    if hint is None or hint.name not in NAMED:
        return NO_SAMPLES
    if hint.name not in cache:
        try:
            cache[hint.name] = data_key(hint.name, options)
        except (AuditError, OSError):
            cache[hint.name] = "unreadable"
    return f"{hint.name}:{hint.split}:{cache[hint.name]}"


def _entries(root: Path) -> Iterable[Path]:
    return root.iterdir() if root.is_dir() else ()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
