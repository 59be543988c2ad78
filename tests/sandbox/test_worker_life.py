"""A worker's surroundings and end: environment, files, signals, leftovers."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from auditor.errors import SandboxError
from auditor.sandbox.host import Worker
from auditor.sandbox.limits import Limits
from tests.sandbox.operations import OPS

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a Linux mechanism")


def test_no_secret_of_the_environment_reaches_the_process(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("HF_TOKEN", "hidden")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Worker(limits=Limits(threads=2), extra_ops=OPS) as worker:
        told = worker.result("environment").body
    assert "hidden" not in str(told)
    assert told["environment"]["OMP_NUM_THREADS"] == "2"
    assert told["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"
    assert told["cwd"] != str(Path.cwd())
    assert told["path0"] not in ("", told["cwd"])


def test_threads_still_work(shared_worker):
    assert shared_worker.result("thread_work").body == {"found": [0, 1, 2, 3]}


def test_prewarmed_modules_are_told_with_their_times_and_failures():
    with Worker(prewarm=["json", "no_such_module"]) as worker:
        worker.wait_ready()
        assert worker.startup["prewarm"]["json"]["seconds"] >= 0
        assert "ModuleNotFoundError" in worker.startup["prewarm"]["no_such_module"]["error"]


def test_closing_leaves_no_process_and_no_folder(worker):
    home = Path(worker.result("environment").body["cwd"])
    pid = worker.pid
    worker.close()
    worker.close()
    assert not psutil.pid_exists(pid)
    assert not home.exists()
    with pytest.raises(SandboxError, match="closed"):
        worker.result("ping")


@linux_only
def test_a_worker_started_in_a_thread_outlives_the_thread():
    started: list[Worker] = []
    thread = threading.Thread(target=lambda: started.append(Worker(extra_ops=OPS)))
    thread.start()
    thread.join()
    with started[0] as worker:
        time.sleep(0.3)
        assert worker.result("ping", {"a": 1}).body == {"a": 1}


def _running(pid):
    """Alive, and not just waiting to be reaped by an init that is slow at it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", ["kill -9", "interrupt"])
def test_the_process_does_not_survive_its_parent(how):
    script = textwrap.dedent("""
        import signal
        from auditor.sandbox.host import Worker
        from tests.sandbox.operations import OPS
        if __name__ == "__main__":
            # A test run started in the background inherits an ignored SIGINT.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with Worker(extra_ops=OPS) as worker:
                for message in worker.call("hang"):
                    print(worker.pid, flush=True)
    """)
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        if how == "interrupt":
            parent.send_signal(2)
        else:
            parent.kill()
        parent.wait(timeout=10)
    deadline = time.monotonic() + 5
    while _running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _running(pid)


def test_where_the_kernel_does_not_tell_a_thread_watches_the_parent():
    child = "import os, time; from auditor.sandbox.protect import watch_parent; "
    child += "watch_parent(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 5
    while _running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _running(pid)


def test_a_second_call_before_the_first_has_ended_is_a_mistake(worker):
    calls = worker.call("count", {"to": 3})
    next(calls)
    with pytest.raises(RuntimeError, match="still running 'count'"):
        worker.result("ping")
    assert [m.kind for m in calls] == ["event", "event", "result"]
    assert worker.result("ping").body == {}


def test_starting_without_modules_is_quick():
    times = []
    for _ in range(5):
        started = time.monotonic()
        with Worker() as worker:
            worker.wait_ready()
            times.append(time.monotonic() - started)
    assert min(times) < 1.0  # 0.2 s on an idle machine


def test_importing_the_host_is_cheap():
    heavy = "'torch', 'onnxruntime', 'sklearn', 'onnx', 'scipy', 'matplotlib'"
    code = f"import sys, auditor.sandbox.host; print([m for m in ({heavy},) if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
