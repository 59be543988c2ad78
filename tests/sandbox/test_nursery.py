"""A forked worker is as alone and as bounded as one started from scratch, only sooner."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from auditor.errors import SandboxError
from auditor.sandbox.failure import WorkerDied
from auditor.sandbox.host import Worker
from auditor.sandbox.limits import MIB, Limits
from auditor.sandbox.nursery import Nursery, Zygote
from tests.sandbox.operations import ATTEMPTS, OPS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a Linux mechanism")
LIGHT = ("numpy",)


@pytest.fixture(scope="module")
def nursery():
    with Nursery([LIGHT]) as warm:
        yield warm


@pytest.fixture
def forked(nursery):
    with Worker(limits=Limits(memory=600 * MIB, timeout=20), extra_ops=OPS) as running:
        running.wait_ready()
        yield running


def _parent(worker):
    return psutil.Process(worker.pid).ppid()


def test_a_worker_in_a_nursery_is_a_fork(forked):
    assert _parent(forked) != os.getpid()
    assert "auditor.sandbox.zygote" in psutil.Process(_parent(forked)).cmdline()
    assert forked.result("ping", {"a": 1}).body == {"a": 1}


def test_every_protection_of_a_fresh_process_holds_in_a_fork(forked, monkeypatch):
    monkeypatch.setattr("auditor.sandbox.host.warm_starter", lambda prewarm: None)
    with Worker(limits=Limits(memory=600 * MIB, timeout=20), extra_ops=OPS) as fresh:
        fresh.wait_ready()
        assert forked.protections == fresh.protections


def test_every_attempt_ends_as_in_a_fresh_process(nursery, monkeypatch, tmp_path):
    def outcomes(folder):
        folder.mkdir()
        (folder / "there").write_text("kept")
        found = {}
        with Worker(limits=Limits(timeout=60), extra_ops=OPS) as worker:
            for what in ATTEMPTS:
                reply = worker.result("attempt", {"what": what, "path": str(folder)}).body
                found[what] = reply["worked"]
        assert (folder / "there").read_text() == "kept"
        return found

    in_fork = outcomes(tmp_path / "a")
    monkeypatch.setattr("auditor.sandbox.host.warm_starter", lambda prewarm: None)
    assert in_fork == outcomes(tmp_path / "b")


def test_a_fork_inherits_nothing_but_its_pipes(forked, monkeypatch):
    with Worker(limits=Limits(), extra_ops=OPS) as second:
        second.wait_ready()
        ends = [str(entry.readlink()) for entry in Path(f"/proc/{second.pid}/fd").iterdir()]
    assert not [end for end in ends if end.startswith("socket:")]
    assert len([end for end in ends if end.startswith("pipe:")]) == 4  # two, and standard error x2


def test_no_secret_reaches_zygote_or_fork(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Nursery([LIGHT]), Worker(limits=Limits(), extra_ops=OPS) as worker:
        told = worker.result("environment").body
        zygote = Path(f"/proc/{_parent(worker)}/environ").read_bytes()
    assert "hf_secret" not in str(told)
    assert b"hf_secret" not in zygote
    # Read when the library of threads is loaded: in the zygote, before the fork.
    assert b"OMP_WAIT_POLICY=PASSIVE" in zygote
    assert told["cwd"] == told["environment"]["HOME"]


@pytest.mark.parametrize(
    ("op", "reason"),
    [("segfault", "crash"), ("leave", "crash"), ("kill_self", "memory"), ("hog", "memory")],
)
def test_deaths_are_told_as_ever_and_the_next_worker_is_unharmed(nursery, op, reason):
    with Worker(limits=Limits(memory=300 * MIB, timeout=20), extra_ops=OPS) as worker:
        with pytest.raises(WorkerDied) as caught:
            worker.result(op)
        assert caught.value.reason == reason
    with Worker(limits=Limits(timeout=20), extra_ops=OPS) as worker:
        assert worker.result("ping", {"n": 2}).body == {"n": 2}


def test_a_hang_is_stopped_at_the_limit(nursery):
    with Worker(limits=Limits(timeout=0.5), extra_ops=OPS) as worker:
        with pytest.raises(WorkerDied) as caught:
            worker.result("hang")
        assert caught.value.reason == "timeout"


def test_closing_a_worker_ends_its_process(nursery):
    with Worker(limits=Limits(), extra_ops=OPS) as worker:
        worker.wait_ready()
        pid = worker.pid
    end = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not psutil.pid_exists(pid)


def test_forks_die_with_the_zygote_and_a_new_one_is_started():
    with Nursery([LIGHT]):
        with Worker(limits=Limits(timeout=20), extra_ops=OPS) as worker:
            worker.wait_ready()
            first = _parent(worker)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                worker.result("hang")
        with Worker(limits=Limits(timeout=20), extra_ops=OPS) as worker:
            assert worker.result("ping").kind == "result"
            assert _parent(worker) not in (first, os.getpid())


def test_modules_no_shelf_holds_start_a_fresh_process(nursery):
    with Worker(limits=Limits(), prewarm=["numpy", "json.tool"], extra_ops=OPS) as worker:
        worker.wait_ready()
        assert _parent(worker) == os.getpid()


def test_a_zygote_that_runs_threads_is_not_used(monkeypatch):
    monkeypatch.setattr(Zygote, "_answer", lambda self: {"ready": 2, "dies": True})
    with Nursery([LIGHT]), Worker(limits=Limits(), extra_ops=OPS) as worker:
        assert worker.result("ping").kind == "result"
        assert _parent(worker) == os.getpid()


def test_a_zygote_that_cannot_start_is_told():
    zygote = Zygote(LIGHT)
    zygote.close()
    with pytest.raises((SandboxError, OSError)):
        zygote.fork("/", {})
