"""What runs jobs, behind one face: joblib with this machine's processes or Dask (here), Ray's tasks
(`auditor.fleet.ray_pool`). Each has its own word for a dead worker.
"""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self, TypeAlias

from auditor.errors import AuditError, UsageError
from auditor.fleet.orphans import end_with
from auditor.fleet.redact import shown_url

_STREAMED_CHUNK = 256

Answer: TypeAlias = tuple[int, Any, "str | AuditError"]
"""(index, value, error): no error is an empty string."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function to be called on a job, and the number its answer comes back under."""

    function: Callable[[Any], Any]
    index: int
    job: Any

    def run(self) -> Answer:
        """What the function raises is an answer too: an exception would end all others' work."""
        try:
            return self.index, self.function(self.job), ""
        except AuditError as problem:
            return self.index, None, problem
        except Exception as error:
            return self.index, None, f"{type(error).__name__}: {error}"[:2000]


def run_call(call: Call) -> Answer:
    """The function that workers import; what it runs comes with the call."""
    return call.run()


class Pool(ABC):
    """A context manager around workers. `chunk` jobs are handed over at a time; `broken` is what
    joblib raises when a worker died; after that `revive` makes it whole again."""

    broken: tuple[type[BaseException], ...] = ()

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._stack = ExitStack()

    @property
    def chunk(self) -> int:
        """How many jobs at a time."""
        return max(_STREAMED_CHUNK, 16 * self.workers)

    @abstractmethod
    def open(self) -> None:
        """Start or find the workers."""

    def stream(self, calls: Iterator[Call]) -> Iterator[Answer]:
        """Answers as they come. Raises one of `broken`."""
        from joblib import Parallel, delayed

        # One worker is asked for as two of which only one gets work: joblib would otherwise run
        # the job in this very process, and a death of it would be ours.
        ahead = 1 if self.workers == 1 else self.workers + self.workers // 2
        parallel = Parallel(
            n_jobs=max(2, self.workers),
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch=ahead,
        )
        answers = parallel(delayed(run_call)(call) for call in calls)
        try:
            # Not `yield from`: leaving early must reach the lines below before it reaches joblib.
            for answer in answers:  # noqa: UP028
                yield answer
        finally:
            with warnings.catch_warnings():  # joblib warns of what it cancels; it is meant
                warnings.simplefilter("ignore")
                answers.close()

    def revive(self) -> None:
        """After a death."""
        self.close()
        self.open()

    def close(self) -> None:
        """Give the workers back."""
        self._stack.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class LocalPool(Pool):
    """Processes of this machine (joblib's loky), one thread each."""

    def open(self) -> None:
        """They start with the first job and stay warm between chunks."""
        from joblib import parallel_config
        from joblib.externals.loky.process_executor import (
            BrokenProcessPool,
            ShutdownExecutorError,
        )

        self.broken = (BrokenProcessPool, ShutdownExecutorError)
        # From their start on, not from their first job: the driver may be killed in between.
        self._stack.enter_context(
            parallel_config(
                backend="loky",
                inner_max_num_threads=1,
                initializer=end_with,
                initargs=(os.getpid(),),
            )
        )

    def __exit__(self, *error: object) -> None:
        """Ends the processes too: their warm children should not outlive the run."""
        super().__exit__(*error)
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


class HerePool(Pool):
    """This very process, one job after the other: for functions that can be trusted not to die."""

    def __init__(self) -> None:
        super().__init__(1)

    def open(self) -> None:
        """Nothing to start."""

    def stream(self, calls: Iterator[Call]) -> Iterator[Answer]:
        """See `Pool.stream`."""
        for call in calls:
            yield call.run()


class DaskPool(Pool):
    """An existing Dask cluster: ``dask://HOST:PORT``. Its workers should run one thread each."""

    def __init__(self, address: str, workers: int) -> None:
        super().__init__(max(1, workers))
        self._address = address.replace("dask://", "tcp://", 1)
        self._asked = workers

    def open(self) -> None:
        """Connect. Raises `UsageError` when Dask is missing or nobody answers."""
        from joblib import parallel_config

        try:
            # Imported by name: an extra whose types need not be installed.
            dask = import_module("distributed")
            comm = import_module("distributed.comm")
        except ImportError as error:
            raise UsageError(
                f"--cluster dask needs Dask ({error}); pip install distributed"
            ) from None
        self.broken = (dask.KilledWorker, dask.CancelledError, comm.CommClosedError)
        try:
            client: Any = dask.Client(self._address, timeout=15, set_as_default=True)
        except OSError:
            shown = shown_url(self._address)
            raise UsageError(f"no Dask cluster answers at {shown}") from None
        self._stack.enter_context(client)
        threads = sum(client.nthreads().values())
        self.workers = min(self._asked, threads) if self._asked else max(1, threads)
        self._stack.enter_context(parallel_config(backend="dask"))
