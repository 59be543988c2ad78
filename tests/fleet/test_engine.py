"""Every job comes to an outcome, whatever happens to the workers."""

import os
import threading

import pytest

from auditor.errors import UsageError
from auditor.fleet import engine
from auditor.fleet.cluster import pool_for
from auditor.fleet.pools import LocalPool
from tests.fleet import functions


def values(outcomes):
    return {o.job if isinstance(o.job, int) else o.job[0]: o.value for o in outcomes}


def test_every_job_has_its_value():
    found = values(engine.run(functions.square, range(40), LocalPool(2)))
    assert found == {n: n * n for n in range(40)}


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_run_in_other_processes_even_when_there_is_one_worker(workers):
    found = set(values(engine.run(functions.where, range(6), LocalPool(workers))).values())
    assert os.getpid() not in found
    assert 1 <= len(found) <= max(2, workers)


def test_a_job_that_kills_its_worker_is_tried_twice_and_told_and_no_other_is_lost(tmp_path):
    jobs = [(n, str(tmp_path)) for n in range(16)]
    outcomes = list(engine.run(functions.sometimes_dies, jobs, LocalPool(2)))
    lost = {o.job[0] for o in outcomes if o.lost}
    assert lost == {7, 14}
    assert {o.job[0]: o.value for o in outcomes if not o.lost} == {
        n: n * n for n in range(16) if n not in lost
    }
    assert len(outcomes) == 16
    assert all("died" in o.lost and "alone" in o.lost for o in outcomes if o.lost)
    for number in lost:
        assert len(list(tmp_path.glob(f"{number}-*"))) >= 2


def test_a_job_whose_worker_died_once_succeeds_the_second_time(tmp_path):
    jobs = [(n, str(tmp_path)) for n in range(6)]
    outcomes = list(engine.run(functions.dies_once, jobs, LocalPool(2)))
    assert not any(o.lost for o in outcomes)
    assert values(outcomes) == {n: n * n for n in range(6)}


def test_an_exception_is_one_jobs_answer_and_ends_nobody_elses():
    outcomes = {o.job: o for o in engine.run(functions.raises, range(4), LocalPool(1))}
    assert outcomes[2].error == "ValueError: two is one too many"
    assert [outcomes[n].value for n in (0, 1, 3)] == [0, 1, 3]


def test_jobs_are_read_a_chunk_at_a_time():
    pool = LocalPool(1)
    read = []

    def jobs():
        for n in range(10 * pool.chunk):
            read.append(n)
            yield n

    outcomes = engine.run(functions.square, jobs(), pool)
    next(outcomes)
    assert len(read) <= pool.chunk
    outcomes.close()


def test_stop_hands_out_no_more_jobs_and_ends_those_in_hand():
    stop = threading.Event()
    outcomes = []
    for outcome in engine.run(functions.slow_square, range(500), LocalPool(1), stop.is_set):
        outcomes.append(outcome)
        if len(outcomes) == 3:
            stop.set()
    assert 3 <= len(outcomes) < 100  # those in hand end; 500 would take a minute


@pytest.mark.parametrize("cluster", ["slurm", "http://user:secret@host/x"])
def test_an_unknown_cluster_is_refused_without_its_secrets(cluster):
    with pytest.raises(UsageError, match="must be ray") as caught:
        pool_for(cluster, 0, 1 << 30)
    assert "secret" not in str(caught.value)


def test_workers_are_sized_to_cores_and_memory(monkeypatch):
    from auditor.fleet import sizing

    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.setattr(sizing, "free_memory", lambda: 10 << 30)
    assert sizing.local_workers(2 << 30) == 3
    assert sizing.local_workers(64 << 30) == 1
    monkeypatch.setattr(sizing, "free_memory", lambda: 1000 << 30)
    assert sizing.local_workers(2 << 30) == 8
