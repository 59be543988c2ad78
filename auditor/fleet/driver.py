"""One fleet run from end to end: lock, plan, audit, record, write reports and index.

The driver never opens a model and keeps nothing per model in memory: the store is its memory.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import AuditError, UsageError
from auditor.fleet import engine, jobs
from auditor.fleet.disk import told_when_full
from auditor.fleet.index import Totals, write_index
from auditor.fleet.lock import NAME as LOCK
from auditor.fleet.lock import FolderLock
from auditor.fleet.log import Log
from auditor.fleet.planning import Circumstances, Plan, plan
from auditor.fleet.pools import Pool
from auditor.fleet.redact import redacted, shown_url
from auditor.fleet.reports import shown_name, write_one, write_reports
from auditor.fleet.rows import Row
from auditor.fleet.store import Store
from auditor.version import __version__

if TYPE_CHECKING:
    from auditor.options import ScanOptions

_PAGE = 256


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What a run is told besides the `ScanOptions` of each model. `budget` is in seconds, None for
    no end; `formats` are the files written per model; `retry` tries lost models again;
    `skip_unsupported` keeps formats refused by name out of the exit code."""

    sources: tuple[str, ...]
    out: Path
    scan: ScanOptions
    formats: tuple[str, ...] = ("json",)
    budget: float | None = None
    retry: bool = False
    skip_unsupported: bool = False


@dataclass(slots=True)
class Progress:
    """What a view shows; `doing` is ``planning``, ``auditing`` or ``writing``."""

    doing: str = "planning"
    models: int = 0
    settled: int = 0
    known: int = 0
    workers: int = 0
    started: float = field(default_factory=time.monotonic)


Told = Callable[[Progress], None]


def run_fleet(
    options: FleetOptions, pool: Callable[[], Pool], told: Told = lambda progress: None
) -> Totals:
    """Audit every model of the sources that has no result yet; write reports and the index.

    Raises `AuditError`: a missing source, a folder that cannot be written or is another run's, a
    store that is none or newer, a full disk. Whatever was finished before is kept in every case; a
    folder in which nothing was finished is not left behind.
    """
    begun = time.monotonic()
    about = Circumstances.of(options.scan)
    made = not options.out.exists()
    with ExitStack() as stack:
        stack.enter_context(told_when_full(options.out))
        stack.enter_context(FolderLock(options.out))
        fresh = made and not any(p.name != LOCK for p in options.out.iterdir())
        at_last = stack.enter_context(ExitStack())  # with store and log closed, the lock still held
        store = stack.enter_context(Store(options.out))
        log = Log(options.out)
        stack.callback(log.close)
        run = _Run(options, store, log, about, told, begun)
        try:
            return run.all(pool)
        except AuditError:
            if fresh and not run.progress.settled:
                at_last.callback(shutil.rmtree, options.out, ignore_errors=True)
            raise


@dataclass(slots=True)
class _Run:
    options: FleetOptions
    store: Store
    log: Log
    about: Circumstances
    told: Told
    begun: float
    number: int = 0
    plan: Plan = field(default_factory=Plan)
    progress: Progress = field(default_factory=Progress)

    def all(self, pool: Callable[[], Pool]) -> Totals:
        sources = [shown_url(s) if "://" in s else s for s in self.options.sources]
        self.number = self.store.begin_run(_now(), {"tool": __version__, "sources": sources})
        self.log.write("start", run=self.number, sources=sources, version=__version__)
        self.plan = plan(
            self.options.sources,
            self.store,
            self.number,
            self.about,
            retry=self.options.retry,
            told=self._planned,
        )
        self.progress.known = self.progress.settled = self.plan.known
        self.log.write("planned", models=self.plan.models, known=self.plan.known)
        waiting = self.store.count(self.number).get("pending", 0)
        if waiting:
            self._audit(pool())
        return self._finish()

    def _audit(self, pool: Pool) -> None:
        self.progress.doing, self.progress.started = "auditing", time.monotonic()
        self.progress.workers = pool.workers
        self.log.write("auditing", workers=pool.workers, pool=type(pool).__name__)
        self.told(self.progress)
        rows: dict[int, Row] = {}
        for outcome in engine.run(jobs.audit, self._jobs(rows), pool, self._over):
            self.progress.workers = pool.workers
            row = rows.pop(outcome.job.model)
            self._settle(row, outcome)
            settled = self.store.model(row.uri)
            if settled is not None:
                write_one(self.store, settled, self.options.out, self.options.formats)
            self.progress.settled += 1
            self.told(self.progress)

    def _jobs(self, rows: dict[int, Row]) -> Iterator[jobs.Job]:
        """Pending models, a page at a time; `rows` holds those that are out."""
        after = 0
        while page := self.store.pending(self.number, after, _PAGE):
            after = page[-1].id
            for row in page:
                rows[row.id] = row
                yield self._job(row)

    def _job(self, row: Row) -> jobs.Job:
        known = ""
        if row.artifact and self.store.lookup(self.about.key(row.artifact, row.path, row.uri)):
            known = row.artifact
        secrets = self.plan.secrets
        return jobs.Job(
            model=row.id,
            origin=secrets.get(row.origin, row.origin),
            path=secrets.get(row.path, row.path),
            shown=shown_name(row.uri),
            options=replace(self.options.scan, out=None),
            sure=row.sure,
            files=row.files,
            known=known,
        )

    def _over(self) -> bool:
        budget = self.options.budget
        return budget is not None and time.monotonic() - self.begun > budget

    def _settle(self, row: Row, outcome: engine.Outcome[jobs.Job, jobs.Done]) -> None:
        """Into the store first, into the log after."""
        done = outcome.value
        facts: dict[str, Any] = {"uri": row.uri}
        if done is None:
            kind = "lost" if outcome.lost else "internal"
            reason = redacted(outcome.lost or f"our mistake: {outcome.error}")
            self.store.settle(
                row.id, "lost", artifact=row.artifact, kind=kind, reason=reason,
                about=self.about.about,
            )  # fmt: skip
            self.log.write("lost", **facts, reason=reason)
            return
        facts["seconds"] = round(done.seconds, 3)
        if done.kind == "failed":
            self.store.settle(row.id, "failed", kind="source", reason=done.reason)
            self.log.write("failed", **facts, reason=done.reason)
            return
        if done.kind == "ignored":
            self.store.settle(row.id, "ignored", reason=done.reason)
            self.log.write("ignored", **facts, reason=done.reason)
            return
        key = self.about.key(done.artifact, row.path, row.uri)
        name, stamp, sha256 = done.files[0]
        files = ((name, stamp or row.stamp, sha256), *done.files[1:])
        if done.kind == "unchanged":
            result = self.store.lookup(key)
            self.store.settle(row.id, "done", files=files, artifact=done.artifact, result=result)
            self.log.write("unchanged", **facts)
            return
        assert done.summary is not None
        self.store.record(row, key, files, done.summary, done.report)
        facts["verdict"], facts["exit_code"] = done.summary["verdict"], done.summary["exit_code"]
        self.log.write("audited", **facts, sha256=done.files[0][2], worst=done.summary["worst"])

    def _planned(self, count: int) -> None:
        self.progress.models = count
        self.told(self.progress)

    def _finish(self) -> Totals:
        self.progress.doing = "writing"
        self.told(self.progress)
        write_reports(self.store, self.number, self.options.out, self.options.formats)
        totals = write_index(
            self.store,
            self.number,
            self.options.out,
            passed=self.plan.passed,
            known=self.plan.known,
            seconds=time.monotonic() - self.begun,
            formats=self.options.formats,
            skip_unsupported=self.options.skip_unsupported,
            sources=[shown_url(s) if "://" in s else shown_name(s) for s in self.options.sources],
        )
        self.store.end_run(self.number, _now())
        self.log.write("end", run=self.number, **totals.to_json())
        return totals


def check_formats(formats: Sequence[str]) -> None:
    """Raises `UsageError` for a format that does not exist, before hours of work."""
    from auditor.report.registry import get_format

    for name in formats:
        if name == "table":
            raise UsageError("a fleet writes files: --format json,html,markdown,sarif,...")
        get_format(name)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
