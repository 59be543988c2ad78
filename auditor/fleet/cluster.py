"""From ``--cluster`` and ``--jobs`` to a pool."""

from __future__ import annotations

from auditor.errors import UsageError
from auditor.fleet.pools import DaskPool, LocalPool, Pool
from auditor.fleet.redact import shown_url


def pool_for(cluster: str | None, workers: int, memory: int, device: str = "auto") -> Pool:
    """The pool of `cluster` (None: this machine) with `workers` (0: as many as it bears).

    Raises `UsageError` for an address no backend knows.
    """
    if workers < 0:
        raise UsageError("--jobs must not be below zero")
    if cluster is None or cluster == "local":
        from auditor.fleet.sizing import local_workers

        return LocalPool(workers or local_workers(memory))
    if cluster == "ray" or cluster.startswith("ray://"):
        from auditor.fleet.ray_pool import RayPool

        return RayPool(cluster, workers, device)
    if cluster.startswith(("dask://", "tcp://", "tls://")):
        return DaskPool(cluster, workers)
    raise UsageError(
        f"--cluster must be ray, ray://HOST:PORT or dask://HOST:PORT, not {shown_url(cluster)!r}"
    )
