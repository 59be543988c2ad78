"""The store's tables, and opening the file that holds them: made, recognised, or refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from auditor.errors import UsageError

VERSION = 1
_APPLICATION = 0x41554446  # "AUDF"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT, about TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
  id INTEGER PRIMARY KEY, artifact TEXT NOT NULL, samples TEXT NOT NULL,
  configuration TEXT NOT NULL, tool TEXT NOT NULL, place TEXT NOT NULL, main TEXT NOT NULL,
  names TEXT NOT NULL, bytes INTEGER NOT NULL, summary TEXT NOT NULL, verdict TEXT NOT NULL,
  exit_code INTEGER NOT NULL, seconds REAL NOT NULL, report BLOB NOT NULL,
  UNIQUE (artifact, samples, configuration, tool, place));
CREATE INDEX IF NOT EXISTS results_main ON results (main);
CREATE INDEX IF NOT EXISTS results_bytes ON results (bytes);
CREATE TABLE IF NOT EXISTS models (
  id INTEGER PRIMARY KEY, uri TEXT NOT NULL UNIQUE, origin TEXT NOT NULL, path TEXT NOT NULL,
  size INTEGER NOT NULL, stamp TEXT NOT NULL, sure INTEGER NOT NULL,
  files TEXT NOT NULL DEFAULT '[]', artifact TEXT NOT NULL DEFAULT '', run INTEGER NOT NULL,
  state TEXT NOT NULL, result INTEGER REFERENCES results (id), kind TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '', about TEXT NOT NULL DEFAULT '',
  written TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS models_run ON models (run, state, id);
"""


def connect(path: Path) -> sqlite3.Connection:
    """The store at `path`. Raises `UsageError` for a file that is no store or a newer one."""
    base = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    try:
        _prepare(base, path)
    except BaseException:
        base.close()
        raise
    return base


def _prepare(base: sqlite3.Connection, path: Path) -> None:
    try:
        (version,) = base.execute("PRAGMA user_version").fetchone()
        (application,) = base.execute("PRAGMA application_id").fetchone()
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"{path} is no result store ({error}): move it away or choose another --out"
        ) from error
    if tables and application != _APPLICATION:
        raise UsageError(f"{path} belongs to another program: move it away or choose another --out")
    if version > VERSION:
        raise UsageError(
            f"{path} was written by a newer version of this tool (store version "
            f"{version}; this one knows {VERSION}): upgrade model-auditor or choose another "
            "--out"
        )
    base.execute("PRAGMA journal_mode=WAL")
    # Safe against a killed process; a power cut can cost the last few results, never the file.
    base.execute("PRAGMA synchronous=NORMAL")
    base.executescript(_SCHEMA)
    base.execute(f"PRAGMA application_id={_APPLICATION}")
    base.execute(f"PRAGMA user_version={VERSION}")
