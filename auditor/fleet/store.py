"""The result store: one SQLite file under ``--out``, in WAL mode, that survives being killed.

``results`` are content-addressed: (artifact, samples, configuration, tool, place) -> report. Rows
of ``models`` say where a model was seen last, under which stamp, and which result is its; ``files``
of a row remember (size, time, inode) -> hash, so that a second run hashes nothing. Everything is
written in small transactions, in the order result, model, so that a kill loses nothing but the
model in hand. Nothing is ever read into memory as a whole.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from auditor.fleet.rows import COLUMNS, Key, Row, State, row_of
from auditor.fleet.schema import connect

NAME = "fleet.sqlite"
_PAGE = 256


class Store:
    """A context manager. Raises `UsageError` for a file that is no store or a newer one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._base = connect(self.path)

    def close(self) -> None:
        """Also writes the log back into the one file."""
        self._base.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Runs -----------------------------------------------------------------------------------

    def begin_run(self, started: str, about: dict[str, Any]) -> int:
        """A new run; its number marks the models it saw."""
        cursor = self._base.execute(
            "INSERT INTO runs (started, about) VALUES (?, ?)", (started, json.dumps(about))
        )
        return int(cursor.lastrowid or 0)

    def end_run(self, run: int, finished: str) -> None:
        """It came to its end."""
        self._base.execute("UPDATE runs SET finished=? WHERE id=?", (finished, run))

    # Planning -------------------------------------------------------------------------------

    def transaction(self) -> sqlite3.Connection:
        """``with store.transaction():`` groups what is planned; commits at its end."""
        self._base.execute("BEGIN")
        return self._base

    def model(self, uri: str) -> Row | None:
        """What is known of `uri`."""
        found = self._base.execute(f"SELECT {COLUMNS} FROM models WHERE uri=?", (uri,)).fetchone()
        return None if found is None else row_of(found)

    def recognised(self, uri: str, stamp: str) -> bool:
        """Whether this very file was taken for a model before."""
        text = "SELECT 1 FROM models WHERE uri=? AND stamp=? AND stamp<>'' AND state<>'ignored'"
        return self._base.execute(text, (uri, stamp)).fetchone() is not None

    def plan(
        self,
        run: int,
        uri: str,
        origin: str,
        path: str,
        size: int,
        stamp: str,
        sure: bool,
        state: State,
        artifact: str = "",
        result: int | None = None,
        kind: str = "",
        reason: str = "",
        about: str = "",
    ) -> bool:
        """Note that this run saw `uri`; False when it had seen it already.

        What was written and hashed for it stays.
        """
        seen = self._base.execute("SELECT run FROM models WHERE uri=?", (uri,)).fetchone()
        if seen is not None and seen[0] == run:
            return False
        values = {
            "run": run, "uri": uri, "origin": origin, "path": path, "size": size, "stamp": stamp,
            "sure": int(sure), "state": state, "artifact": artifact, "result": result,
            "kind": kind, "reason": reason, "about": about,
        }  # fmt: skip
        marks = ", ".join("?" * len(values))
        renewed = ", ".join(f"{name}=excluded.{name}" for name in values if name != "uri")
        self._base.execute(
            f"INSERT INTO models ({', '.join(values)}) VALUES ({marks}) "
            f"ON CONFLICT (uri) DO UPDATE SET {renewed}",
            tuple(values.values()),
        )
        return True

    def names_of(self, main: str) -> tuple[str, ...] | None:
        """The external data a model file of this hash names; None when it was never audited."""
        found = self._base.execute(
            "SELECT names FROM results WHERE main=? LIMIT 1", (main,)
        ).fetchone()
        return None if found is None else tuple(json.loads(found[0]))

    def has_size(self, size: int) -> bool:
        """Whether any audited model file is of `size` bytes: otherwise there is no point in hashing
        a new one before it is audited."""
        text = "SELECT 1 FROM results WHERE bytes=? LIMIT 1"
        return self._base.execute(text, (size,)).fetchone() is not None

    def lookup(self, key: Key) -> int | None:
        """The number of the result at `key`."""
        found = self._base.execute(
            "SELECT id FROM results WHERE artifact=? AND samples=? AND configuration=? AND tool=? "
            "AND place=?",
            key.as_tuple(),
        ).fetchone()
        return None if found is None else int(found[0])

    # Working --------------------------------------------------------------------------------

    def pending(self, run: int, after: int, count: int) -> list[Row]:
        """The next `count` models of `run` without a result, by number above `after`."""
        text = (
            f"SELECT {COLUMNS} FROM models WHERE run=? AND state='pending' AND id>? "
            "ORDER BY id LIMIT ?"
        )
        return [row_of(r) for r in self._base.execute(text, (run, after, count))]

    def record(
        self,
        row: Row,
        key: Key,
        files: Sequence[tuple[str, str, str]],
        summary: dict[str, Any],
        report: bytes,
    ) -> int:
        """Keep a result (`report` is compressed JSON) and make it `row`'s, in one transaction."""
        with self.transaction():
            self._base.execute(
                "INSERT INTO results (artifact, samples, configuration, tool, place, "
                "main, names, bytes, summary, verdict, exit_code, seconds, report) "
                "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) "
                # Its number stays: other models of the same content refer to it.
                "ON CONFLICT (artifact, samples, configuration, tool, place) DO UPDATE SET "
                "summary=excluded.summary, verdict=excluded.verdict, "
                "exit_code=excluded.exit_code, seconds=excluded.seconds, report=excluded.report",
                (
                    *key.as_tuple(),
                    files[0][2],
                    json.dumps([name for name, _, _ in files[1:]]),
                    int(summary["bytes"]),
                    json.dumps(summary),
                    summary["verdict"],
                    int(summary["exit_code"]),
                    float(summary["seconds"]),
                    report,
                ),
            )
            result = self.lookup(key)
            assert result is not None
            self.settle(row.id, "done", files=files, artifact=key.artifact, result=result)
        return result

    def settle(
        self,
        model: int,
        state: State,
        *,
        files: Sequence[tuple[str, str, str]] | None = None,
        artifact: str = "",
        result: int | None = None,
        kind: str = "",
        reason: str = "",
        about: str = "",
    ) -> None:
        """What became of a model."""
        self._base.execute(
            "UPDATE models SET state=?, result=?, artifact=?, kind=?, reason=?, about=?, "
            "files=coalesce(?, files), stamp=coalesce(?, stamp) WHERE id=?",
            (
                *(state, result, artifact, kind, reason, about),
                None if files is None else json.dumps(list(files)),
                None if not files or not files[0][1] else files[0][1],
                model,
            ),
        )

    def mark_written(self, model: int, written: str) -> None:
        """Which result its report files hold."""
        self._base.execute("UPDATE models SET written=? WHERE id=?", (written, model))

    # Reading out ----------------------------------------------------------------------------

    def listed(self, run: int) -> Iterator[tuple[Row, dict[str, Any] | None]]:
        """Every model of `run` with its result's summary, worst first, a page at a time."""
        text = (
            f"SELECT {', '.join('m.' + c.strip() for c in COLUMNS.split(','))}, r.summary "
            "FROM models m LEFT JOIN results r ON r.id=m.result "
            "WHERE m.run=? AND m.state<>'ignored' ORDER BY "
            "CASE coalesce(r.exit_code, CASE m.state WHEN 'failed' THEN 2 ELSE 3 END) "
            "WHEN 1 THEN 0 WHEN 2 THEN 1 WHEN 3 THEN 2 ELSE 3 END, "
            "CASE r.verdict WHEN 'review' THEN 0 ELSE 1 END, m.uri"
        )
        # A cursor of its own: sorted by SQLite (on disk when large), fetched page by page.
        cursor = self._base.cursor()
        cursor.arraysize = _PAGE
        cursor.execute(text, (run,))
        while page := cursor.fetchmany():
            for *fields, summary in page:
                yield row_of(fields), None if summary is None else json.loads(summary)

    def report(self, result: int) -> dict[str, Any]:
        """The report of a result, as JSON values."""
        (blob,) = self._base.execute("SELECT report FROM results WHERE id=?", (result,)).fetchone()
        report: dict[str, Any] = json.loads(zlib.decompress(blob))
        return report

    def count(self, run: int) -> dict[str, int]:
        """Models of `run` by state."""
        text = "SELECT state, count(*) FROM models WHERE run=? GROUP BY state"
        return {str(state): int(n) for state, n in self._base.execute(text, (run,))}
