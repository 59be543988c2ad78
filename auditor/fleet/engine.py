"""Run a function over many jobs through joblib; a worker that dies costs at most the job in hand.

joblib gives up a whole call when one worker process is killed. Here the jobs that were handed out
and did not come back are run again, in ever smaller groups, so that the one that kills its worker
is found out: it has two tries, the second one alone, and then it is reported as lost. The function
and the jobs only need to be picklable: the zoo and the benchmarks use the same engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from auditor.errors import AuditError
from auditor.fleet.pools import Call, Pool

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[J, R]):
    """A job and its value, or why there is none: `error` is what the function raised (an
    `AuditError` itself, of others the type and message), `lost` that its worker died twice."""

    job: J
    value: R | None = None
    error: str | AuditError = ""
    lost: str = ""


Stop = Callable[[], bool]


def run(
    function: Callable[[J], R],
    jobs: Iterable[J],
    pool: Pool,
    stop: Stop = lambda: False,
) -> Iterator[Outcome[J, R]]:
    """Yield the outcomes as they come, in any order. `jobs` is read a chunk at a time, so neither
    jobs nor results pile up. Once `stop` says so no more jobs are handed out; those in hand end.
    """
    source = iter(jobs)
    with pool:
        while not stop() and (chunk := list(islice(source, pool.chunk))):
            yield from _settle(function, chunk, pool, stop)


def _settle(
    function: Callable[[J], R], chunk: Sequence[J], pool: Pool, stop: Stop
) -> Iterator[Outcome[J, R]]:
    """Every job of `chunk` comes to an outcome, whatever happens to the workers."""
    left = dict(enumerate(chunk))
    while left and not stop():
        handed: set[int] = set()
        try:
            for index, value, error in pool.stream(_calls(function, left, handed, stop)):
                yield Outcome(left.pop(index), value, error)
        except pool.broken as death:
            pool.revive()
            suspects = [left.pop(index) for index in sorted(handed & left.keys())]
            yield from _again(function, suspects, pool, stop, _why(death))


def _calls(
    function: Callable[[J], R], left: dict[int, J], handed: set[int], stop: Stop
) -> Iterator[Call]:
    for index, job in list(left.items()):
        if stop():
            return
        handed.add(index)
        yield Call(function, index, job)


def _again(
    function: Callable[[J], R], suspects: Sequence[J], pool: Pool, stop: Stop, why: str
) -> Iterator[Outcome[J, R]]:
    """Halve a group that lost its worker until the one to blame is alone; then its second try."""
    if len(suspects) > 2:
        half = (len(suspects) + 1) // 2
        for part in (suspects[:half], suspects[half:]):
            yield from _settle(function, part, pool, stop)
        return
    for job in suspects:
        try:
            for _, value, error in pool.stream(iter([Call(function, 0, job)])):
                yield Outcome(job, value, error)
        except pool.broken as death:
            pool.revive()
            yield Outcome(job, lost=f"{why}; and again when it ran alone: {_why(death)}")


def _why(death: BaseException) -> str:
    """The first sentence of what the backend says, on one line."""
    text = " ".join(str(death).split()) or type(death).__name__
    return f"the worker died ({type(death).__name__}: {text[:160]})"
