"""From what the user wrote to a `Source`: ours and those under entry point group ``audit.sources``.

Ours register in the same way; the first (by `order`) that accepts the text gets it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from auditor.errors import UsageError
from auditor.fleet.interface import Source
from auditor.fleet.redact import redacted

GROUP = "audit.sources"

BUILT_IN = (
    "auditor.fleet.sources.mlflow:MlflowSource",
    "auditor.fleet.sources.remote:RemoteSource",
    "auditor.fleet.sources.lists:ListSource",
    "auditor.fleet.sources.local:LocalSource",
)


@cache
def kinds() -> tuple[tuple[type[Source], ...], tuple[str, ...]]:
    """Every kind in the order they are asked, and notices about broken plug-ins."""
    found: list[type[Source]] = []
    notices: list[str] = []
    for spec in BUILT_IN:
        module, _, name = spec.partition(":")
        found.append(getattr(import_module(module), name))
    for entry in entry_points(group=GROUP):
        try:
            value = entry.load()
            if not (isinstance(value, type) and issubclass(value, Source)):
                raise TypeError("not a Source")
            found.append(value)
        except Exception as error:  # a stranger's import may raise anything
            notices.append(f"source plug-in {entry.name!r} could not be loaded: {error!r}")
    return tuple(sorted(found, key=lambda kind: kind.order)), tuple(notices)


def open_source(text: str) -> Source:
    """The source `text` names. Raises `UsageError`."""
    if not text.strip() or "\0" in text:
        raise UsageError("an empty source: name a folder, a file, a pattern or a URL")
    for kind in kinds()[0]:
        if kind.accepts(text):
            return kind(text)
    raise UsageError(
        f"{redacted(text)!r} is no source this tool knows: name a folder, a file, a pattern such "
        "as 'models/**/*.onnx', a list (a text file with one source a line), or a URL (s3://, "
        "hf://, models:/, https://)"
    )
