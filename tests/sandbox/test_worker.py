"""What a caller sees: messages in order, errors in words, and a death with its reason."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from auditor.errors import SandboxError, UnreadableArtifact
from auditor.sandbox.failure import OperationFailed, WorkerDied
from auditor.sandbox.host import Worker
from auditor.sandbox.limits import MIB, Limits
from auditor.sandbox.transport import TransportError
from tests.sandbox.operations import OPS

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a Linux mechanism")


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_arrays_come_back_as_they_went(shared_worker, dtype, shape):
    sent = np.ones(shape, dtype)
    back = shared_worker.result("ping", {"text": "ü", "n": [1, None]}, {"x": sent})
    assert back.body == {"text": "ü", "n": [1, None]}
    assert back.arrays["x"].dtype == sent.dtype
    np.testing.assert_array_equal(back.arrays["x"], sent)


def test_strided_and_big_endian_arrays_travel(shared_worker):
    strided = np.arange(12.0).reshape(3, 4)[:, ::2].T
    big = np.arange(4, dtype=">i4")
    back = shared_worker.result("double", arrays={"strided": strided, "big": big}).arrays
    np.testing.assert_array_equal(back["strided"], strided * 2)
    np.testing.assert_array_equal(back["big"], big * 2)


def test_events_arrive_in_order_and_the_result_is_last(shared_worker):
    messages = list(shared_worker.call("count", {"to": 5}))
    assert [m.kind for m in messages] == ["event"] * 5 + ["result"]
    assert [int(m.arrays["at"][0]) for m in messages[:-1]] == list(range(5))
    assert messages[-1].body == {"done": 5}


def test_events_arrive_while_the_operation_runs(worker):
    calls = worker.call("hang")
    assert next(calls).body == {"going": "to sleep"}
    calls.close()
    assert not worker.alive


def test_unknown_operation_is_refused_and_the_worker_lives(shared_worker):
    with pytest.raises(OperationFailed, match="no operation is called 'os:system'"):
        shared_worker.result("os:system")
    assert shared_worker.result("ping", {"a": 1}).body == {"a": 1}


def test_our_errors_keep_their_kind_and_lose_control_characters(shared_worker):
    with pytest.raises(UnreadableArtifact) as caught:
        shared_worker.result("refuse")
    assert str(caught.value) == "the file is [31m not a model"


def test_other_exceptions_are_an_error_message_with_a_traceback(shared_worker):
    (message,) = shared_worker.call("blunder")
    assert message.kind == "error"
    assert (message.body["type"], message.body["kind"]) == ("IndexError", "crash")
    assert "operations.py" in message.body["traceback"]
    with pytest.raises(OperationFailed, match=r"'blunder' failed .* IndexError: list index"):
        shared_worker.result("blunder")


def test_memory_error_inside_is_told_as_memory(shared_worker):
    with pytest.raises(OperationFailed) as caught:
        shared_worker.result("exhaust")
    assert caught.value.reason == "memory"


@pytest.mark.parametrize("op", ["hang", "spin"])
def test_hang_is_stopped_at_the_limit(worker, op):
    worker.wait_ready()
    started = time.monotonic()
    with pytest.raises(WorkerDied, match=r"stopped after 0\.5 s \(limit --timeout\)") as caught:
        worker.result(op, timeout=0.5)
    assert time.monotonic() - started < 3
    assert (caught.value.reason, caught.value.op) == ("timeout", op)


def test_a_call_after_death_tells_why_again(worker):
    with pytest.raises(WorkerDied):
        worker.result("hang", timeout=0.2)
    assert not worker.alive
    with pytest.raises(WorkerDied, match=r"0\.2 s"):
        worker.result("ping")


def test_time_between_calls_does_not_count(worker):
    worker.result("ping", timeout=0.5)
    time.sleep(0.7)
    assert worker.result("ping", timeout=0.5).body == {}


def test_memory_hog_is_killed_near_the_limit(worker):
    with pytest.raises(WorkerDied, match=r"more than 600 MiB \(limit --memory\)") as caught:
        worker.result("hog")
    assert caught.value.reason == "memory"
    assert worker.peak_memory < 1200 * MIB


def test_segfault_is_a_crash_with_its_signal_and_stack(worker):
    with pytest.raises(WorkerDied, match="SIGSEGV while running 'segfault'") as caught:
        worker.result("segfault")
    assert caught.value.reason == "crash"
    assert "string_at" in caught.value.stderr


def test_exit_and_kill_are_told_apart(worker):
    with pytest.raises(WorkerDied, match=r"ended by itself \(exit code 3\)") as caught:
        worker.result("leave")
    assert caught.value.reason == "crash"


def test_a_kill_from_outside_is_told_as_memory(worker):
    with pytest.raises(WorkerDied, match="killed by the system") as caught:
        worker.result("kill_self")
    assert caught.value.reason == "memory"


def test_processor_time_is_bounded():
    with (
        Worker(limits=Limits(cpu_seconds=1, timeout=60), extra_ops=OPS) as worker,
        pytest.raises(WorkerDied, match="1 s of processor time") as caught,
    ):
        worker.result("spin")
    assert caught.value.reason == "timeout"


def test_what_a_model_prints_does_not_reach_the_protocol(worker):
    assert worker.result("chatter").body == {"fine": True}
    with pytest.raises(OperationFailed, match="EOFError"):
        worker.result("chatter", {"ask": True})
    assert worker.result("ping").body == {}


def test_the_end_of_standard_error_is_kept_and_bounded(worker):
    worker.result("print_stderr")
    deadline = time.monotonic() + 5
    while "the last words" not in worker.stderr_tail and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.stderr_tail.endswith("the last words")
    assert len(worker.stderr_tail) <= 20_000


def test_results_that_may_not_travel_are_errors_not_deaths(shared_worker):
    with pytest.raises(OperationFailed, match="not plain JSON"):
        shared_worker.result("bad_number")
    with pytest.raises(OperationFailed, match="object, which may not travel"):
        shared_worker.result("bad_array")


def test_requests_that_may_not_travel_are_refused_before_sending(shared_worker):
    with pytest.raises(TransportError):
        shared_worker.result("ping", {"x": float("inf")})
    with pytest.raises(TransportError):
        shared_worker.result("ping", arrays={"x": np.array([None])})
    assert shared_worker.result("ping", {"x": 1}).body == {"x": 1}


@pytest.mark.parametrize(
    "hex_bytes",
    ["00" * 64, b"AUD1\xff\xff\xff\xff".hex(), (b"AUD1\x02\x00\x00\x00{}").hex()],
    ids=["garbage", "huge header", "empty header"],
)
@linux_only
def test_malformed_frames_stop_the_process(worker, hex_bytes):
    with pytest.raises(WorkerDied, match="sent something unreadable") as caught:
        worker.result("write_raw", {"hex": hex_bytes})
    assert caught.value.reason == "protocol"
    assert not worker.alive


@linux_only
def test_a_closed_pipe_stops_the_process(worker):
    with pytest.raises(WorkerDied, match="closed its pipe") as caught:
        worker.result("close_pipe")
    assert caught.value.reason == "protocol"


def test_the_limit_on_a_message_holds_both_ways():
    limits = Limits(message_bytes=1 << 16, timeout=20)
    with Worker(limits=limits, extra_ops=OPS) as worker:
        with pytest.raises(TransportError, match="over 65536"):
            worker.result("ping", arrays={"x": np.zeros(1 << 17, np.uint8)})
        assert worker.result("ping", arrays={"x": np.zeros(1 << 16, np.uint8)}).arrays


def test_large_arrays_do_not_deadlock(shared_worker):
    big = np.arange(8_000_000, dtype=np.float32)
    back = shared_worker.result("double", arrays={"big": big})
    np.testing.assert_array_equal(back.arrays["big"], big * 2)


def test_no_secret_of_the_environment_reaches_the_process(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("HF_TOKEN", "hidden")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Worker(limits=Limits(threads=2), extra_ops=OPS) as worker:
        told = worker.result("environment").body
    assert "hidden" not in str(told)
    assert told["environment"]["OMP_NUM_THREADS"] == "2"
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
