"""Run a bench: what is there already is kept, the rest is measured and appended as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.bench import rows as table
from auditor.bench.measure import Job, is_due, measure, models_below
from auditor.bench.rows import Row
from auditor.errors import AuditError, UsageError

ROWS = "rows.jsonl"


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` models; `failed` are sentences about models without a row."""

    done: int
    total: int
    row: Row | None = None
    failed: str = ""


def jobs_for(
    folder: Path,
    formats: Sequence[str],
    *,
    samples: int,
    seed: int,
    data: str | None,
    data_root: Path | None,
    against: tuple[str, ...],
    budget: float,
    limit: int | None = None,
) -> list[Job]:
    """One job a model file below `folder`. Raises `UsageError` when there is none."""
    found = [
        Job(
            str(model),
            model.relative_to(folder).as_posix(),
            samples,
            seed,
            data,
            data_root,
            against,
            budget,
        )
        for model in models_below(folder, formats)
        if is_due(model)
    ]
    if not found:
        words = " or ".join(f".{suffix}" for suffix in formats)
        raise UsageError(
            f"{folder} holds no {words} model with a zoo manifest (NAME.manifest.json) beside it"
        )
    return found[:limit]


def run(
    jobs: Sequence[Job],
    out: Path,
    workers: int = 1,
    told: Callable[[Progress], None] = lambda state: None,
) -> list[Row]:
    """Measure what `out`/rows.jsonl does not hold yet; returns the rows of all `jobs`.

    A model whose worker died has no row; `told` hears why. Rows that lack a baseline that is asked
    for now are measured again. Raises `UsageError` when `out` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}") from None
    store = out / ROWS
    known = {row.key: row for row in (table.read(store) if store.is_file() else [])}
    _mend(store)
    todo = [job for job in jobs if not _has(known, job)]
    done = len(jobs) - len(todo)
    told(Progress(done, len(jobs)))
    for row, failed in _measured(todo, workers):
        done += 1
        if row is not None:
            table.append(store, row)
            known[row.key] = row
        told(Progress(done, len(jobs), row, failed))
    keys = [table.key(job.name, job.samples, job.seed) for job in jobs]
    return [known[k] for k in keys if k in known]


def _has(known: dict[str, Row], job: Job) -> bool:
    row = known.get(table.key(job.name, job.samples, job.seed))
    return row is not None and set(job.against) <= row.baselines.keys()


def _mend(store: Path) -> None:
    """Drop a last line that a kill cut short, so that the next one starts on its own."""
    if not store.is_file():
        return
    content = store.read_bytes()
    if content and not content.endswith(b"\n"):
        with store.open("rb+") as stream:
            stream.truncate(content.rfind(b"\n") + 1)


def _measured(jobs: Sequence[Job], workers: int) -> Iterable[tuple[Row | None, str]]:
    if workers == 1:
        for job in jobs:
            try:
                yield measure(job), ""
            except AuditError as error:
                yield None, f"{job.name}: {error}"
        return
    from auditor.fleet import engine
    from auditor.fleet.pools import LocalPool

    for outcome in engine.run(measure, jobs, LocalPool(workers)):
        why = outcome.error or outcome.lost
        yield outcome.value, f"{outcome.job.name}: {why}" if why else ""
