"""What a caller sees: messages in order, errors in words, and a death with its reason."""

import sys
import time

import numpy as np
import pytest

from auditor.errors import UnreadableArtifact
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
