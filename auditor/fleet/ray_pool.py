"""A Ray cluster: ``ray://HOST:PORT``, or ``ray`` to start or join one.

Jobs are Ray's own tasks, not joblib's Ray backend: that one starts a fixed number of actors and
waits for ever when a node is lost before all of them have a place; it also returns whole lists.
Tasks go wherever there is a processor, also on nodes that join later. A lost node fails the tasks
it had; they are handed out again (`auditor.fleet.engine`). Nothing is reported to Ray's makers
(its usage statistics are switched off).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from auditor.errors import UsageError
from auditor.fleet.pools import Answer, Call, Pool, run_call
from auditor.fleet.redact import shown_url

_OBJECT_STORE = 200 << 20
_SETTLE_SECONDS = 60.0


class RayPool(Pool):
    """A processor for each task, and a share of a GPU where every node has one.

    `workers` 0 takes every processor the cluster has.
    """

    def __init__(self, address: str, workers: int = 0, device: str = "auto") -> None:
        super().__init__(max(1, workers))
        self._asked, self._address, self._device = workers, address, device
        self._connected = False
        self._options: dict[str, Any] = {}
        # Ray prints what happens to its nodes on our standard output, which may be read as JSON.
        self._quiet = contextlib.redirect_stdout(sys.stderr)

    def open(self) -> None:
        """Connect (once) and count what is alive now."""
        ray = self._connect()
        self.broken = (ray.exceptions.RayError,)
        self.workers, self._options = self._wait_for_workers(ray)

    def stream(self, calls: Iterator[Call]) -> Iterator[Answer]:
        """See `Pool.stream`. What was lost is raised last, when every other answer is out."""
        ray = import_module("ray")
        # Retries are the engine's: a job that kills its worker must not be tried four times.
        task = ray.remote(max_retries=0, max_calls=0, **self._options)(run_call)
        running: list[Any] = []
        death: BaseException | None = None
        try:
            while running := self._filled(task, running, calls if death is None else iter(())):
                (done,), running = ray.wait(running, num_returns=1)
                try:
                    answer = ray.get(done)
                except self.broken as lost:
                    death = lost
                    continue
                yield answer
        finally:
            for left in running:
                ray.cancel(left, force=True)
        if death is not None:
            raise death

    def _filled(self, task: Any, running: list[Any], calls: Iterator[Call]) -> list[Any]:
        """`running` and as many more as keep the workers busy."""
        ahead = self.workers + self.workers // 2
        return [*running, *(task.remote(call) for call in islice(calls, ahead - len(running)))]

    def revive(self) -> None:
        """Let the cluster notice who is gone, then go on with the rest."""
        time.sleep(1.0)
        super().revive()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._connected:
            import_module("ray").shutdown()
            self._quiet.__exit__(None, None, None)
            self._connected = False

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            # Imported by name: an extra whose types need not be installed.
            ray: Any = import_module("ray")
        except ImportError as error:
            raise UsageError(
                f"--cluster ray needs Ray ({error}); pip install 'model-auditor[ray]'"
            ) from None
        if not self._connected:
            common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            stop = signal.getsignal(signal.SIGTERM)
            try:
                if self._address == "ray":
                    self._join_or_start(ray, common)
                else:
                    ray.init(address=self._address, **common)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                text = " ".join(str(error).split())[:200]
                raise UsageError(
                    f"no Ray cluster answers at {shown_url(self._address)} ({text})"
                ) from None
            finally:
                # Ray puts its own there, with an exit code of its own.
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, stop)
            self._quiet.__enter__()
            self._connected = True
        return ray

    @staticmethod
    def _join_or_start(ray: Any, common: dict[str, Any]) -> None:
        """The cluster RAY_ADDRESS names or that runs here, else a small one for this run."""
        with contextlib.suppress(ConnectionError):
            ray.init(address="auto", **common)
            return
        ray.init(include_dashboard=False, object_store_memory=_OBJECT_STORE, **common)

    def _wait_for_workers(self, ray: Any) -> tuple[int, dict[str, Any]]:
        """How many tasks at once and what each asks for; waits for a cluster without processors."""
        end = time.monotonic() + _SETTLE_SECONDS
        while True:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            cores = int(sum(resources.get("CPU", 0) for resources in nodes))
            if cores or time.monotonic() > end:
                break
            time.sleep(1.0)
        if not cores:
            raise UsageError("the Ray cluster has no processor to offer")
        workers = min(self._asked, cores) if self._asked else cores
        options: dict[str, Any] = {"num_cpus": 1}
        gpus = [resources.get("GPU", 0) for resources in nodes]
        if self._device == "cuda" or (self._device == "auto" and all(gpus)):
            options["num_gpus"] = min(1.0, sum(gpus) / workers) if any(gpus) else 1.0
        return workers, options
