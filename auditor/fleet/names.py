"""File names for reports: safe on every system, readable, and different for different models."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 60


def report_stem(uri: str) -> str:
    """``ab/<name>-<hash>`` without an extension: a shelf of 256, the name cleaned, 64 bits of hash.

    The hash alone makes it unique; the shelf keeps folders small with a million models.
    """
    digest = hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()
    name = _UNSAFE.sub("-", "-".join(uri.rstrip("/").split("/")[-2:])).strip("-._")
    return f"{digest[:2]}/{name[-_LONGEST:].strip('-._') or 'model'}-{digest[:16]}"
