"""Auditor: audit an image classifier somebody else trained, before you deploy it.

>>> import auditor
>>> report = auditor.scan("model.onnx", data="samples/")   # doctest: +SKIP
>>> report.verdict                                         # doctest: +SKIP
'fail'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from auditor.version import __version__

if TYPE_CHECKING:
    from auditor.artifacts.open import open_artifact
    from auditor.options import ScanOptions
    from auditor.scanning import scan

__all__ = ["ScanOptions", "__version__", "open_artifact", "scan"]

# onnxruntime's own builds report their use to its maker unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "open_artifact": "auditor.artifacts.open",
    "scan": "auditor.scanning",
    "ScanOptions": "auditor.options",
}


def __getattr__(name: str) -> Any:
    """Import the public API on first use, so that ``audit --help`` stays fast."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")
