"""Dask by configuration alone: an existing cluster runs the same jobs, and a worker may die."""

import warnings

import pytest

from auditor.errors import UsageError
from auditor.fleet import engine
from auditor.fleet.cluster import pool_for
from tests.fleet import functions

distributed = pytest.importorskip("distributed", reason="Dask is not installed (extra dask)")


@pytest.fixture
def address():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
        ) as cluster:
            yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore")  # Dask's own, about threads that end late
def test_jobs_run_on_a_dask_cluster():
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None,
        protocol="tcp://",
    ) as cluster:  # fmt: skip
        pool = pool_for(cluster.scheduler_address, 0, 1 << 30)
        outcomes = list(engine.run(functions.square, range(12), pool))
        assert pool.workers == 2
    assert {o.job: o.value for o in outcomes} == {n: n * n for n in range(12)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Dask's own, about the worker that is killed
def test_jobs_run_on_a_dask_cluster_and_one_that_kills_its_worker_is_lost_alone(address, tmp_path):
    jobs = [(n, str(tmp_path)) for n in range(1, 12)]
    pool = pool_for(address.replace("tcp://", "dask://"), 0, 1 << 30)
    outcomes = list(engine.run(functions.sometimes_dies, jobs, pool))
    assert {o.job[0] for o in outcomes if o.lost} == {7}
    assert {o.job[0]: o.value for o in outcomes if not o.lost} == {
        n: n * n for n in range(1, 12) if n != 7
    }


def test_a_cluster_that_does_not_answer_is_one_sentence():
    with pytest.raises(UsageError, match=r"no Dask cluster answers at .*127.0.0.1:9"):
        list(engine.run(functions.square, range(3), pool_for("dask://127.0.0.1:9", 1, 1)))
