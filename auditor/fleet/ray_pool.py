"""A Ray cluster through joblib's own Ray backend: ``ray://HOST:PORT``, or ``ray`` to start or join.

The backend returns whole lists, so chunks are small: a few jobs a worker. A node that is lost takes
its actors along; the pool is then built anew on what is left and the jobs are handed out again.
Nothing is reported to Ray's makers (its usage statistics are switched off).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar

from auditor.errors import UsageError
from auditor.fleet.pools import Answer, Call, Pool
from auditor.fleet.redact import shown_url

_A_WORKER = 4
_OBJECT_STORE = 200 << 20
_SETTLE_SECONDS = 60.0


class RayPool(Pool):
    """Workers are Ray actors of one processor each; a share of a GPU each where every node has one.

    `workers` 0 takes every processor the cluster has.
    """

    streams: ClassVar[bool] = False

    def __init__(self, address: str, workers: int = 0, device: str = "auto") -> None:
        super().__init__(max(1, workers))
        self._asked, self._address, self._device = workers, address, device
        self._connected = False

    @property
    def chunk(self) -> int:
        """A few jobs a worker: results come back a chunk at a time."""
        return _A_WORKER * self.workers

    def open(self) -> None:
        """Connect (once) and use what is alive now."""
        from joblib import parallel_config

        ray = self._connect()
        self.broken = (ray.exceptions.RayError,)
        self.workers, options = self._wait_for_workers(ray)
        self._stack.enter_context(parallel_config(backend="ray", ray_remote_args=options))

    def stream(self, calls: Iterator[Call]) -> Iterator[Answer]:
        """See `Pool.stream`; all of them after the last."""
        try:
            yield from list(super().stream(calls))
        finally:
            self._collect()

    def revive(self) -> None:
        """Let the cluster notice who is gone, then start again with the rest."""
        time.sleep(1.0)
        super().revive()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._connected:
            import_module("ray").shutdown()
            self._connected = False

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            # Imported by name: an extra whose types need not be installed.
            ray: Any = import_module("ray")
            backend = import_module("ray.util.joblib")
        except ImportError as error:
            raise UsageError(
                f"--cluster ray needs Ray ({error}); pip install 'model-auditor[ray]'"
            ) from None
        if not self._connected:
            common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
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
            backend.register_ray()
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
        """How many actors to start with which options; waits for a cluster that has none yet."""
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
        options: dict[str, Any] = {"num_cpus": 1 if workers > 1 else 0.5}
        gpus = [resources.get("GPU", 0) for resources in nodes]
        if self._device == "cuda" or (self._device == "auto" and all(gpus)):
            options["num_gpus"] = min(1.0, sum(gpus) / workers) if any(gpus) else 1.0
        return workers, options

    @staticmethod
    def _collect() -> None:
        """Actors of a finished pool go when nothing refers to them any more."""
        import gc

        gc.collect()
