"""What the report says about where it was made: versions and protections, never names or paths."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("torch", "onnx", "onnxruntime", "onnx-ir", "numpy", "scikit-learn")


def environment(protections: Mapping[str, Any], command: str = "") -> dict[str, Any]:
    """Python, system, library versions, sandbox protections, and the command to repeat it."""
    repeat = {"command": command} if command else {}
    return {
        **repeat,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "protections": dict(protections),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
