"""Fixtures shared by the twin's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("AUDITOR_SHARED", "/work/shared"))


@pytest.fixture
def shared() -> Path:
    """The folder of third-party test material."""
    if not SHARED.is_dir():
        pytest.skip("no third-party test material here (set AUDITOR_SHARED)")
    return SHARED
