"""What a hostile model tries inside the process is refused, and what a harmless one needs works."""

import json
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from auditor.sandbox import landlock, protect, seccomp
from auditor.sandbox.host import Worker
from auditor.sandbox.limits import Limits
from tests.sandbox.operations import ATTEMPTS, OPS

WRITES = ["create", "overwrite", "append", "truncate", "unlink", "rename", "mkdir", "symlink"]
WRITES += ["hardlink", "chmod", "utime", "fifo", "from_thread"]
OTHERS = sorted(set(ATTEMPTS) - set(WRITES))

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a Linux mechanism")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "there").write_text("precious")
    (tmp_path / "there").chmod(0o640)
    return tmp_path


@pytest.fixture(scope="module")
def locked():
    """A worker with all protections; skips where the system has neither mechanism."""
    with Worker(limits=Limits(timeout=60, threads=1), extra_ops=OPS) as worker:
        worker.wait_ready()
        for name in ("no_file_writes", "no_network", "no_programs"):
            if worker.protections[name].status != "applied":
                pytest.skip(f"{name}: {worker.protections[name].detail}")
        yield worker


def _state(folder):
    return sorted((p.name, p.lstat().st_mode, p.read_bytes()) for p in folder.iterdir())


@pytest.mark.parametrize("what", WRITES)
def test_the_attempts_work_outside(folder, what):
    """Otherwise the next test would prove nothing."""
    ATTEMPTS[what](folder)


@linux_only
@pytest.mark.parametrize("what", WRITES)
def test_changes_to_files_are_refused(locked, folder, what):
    before, changed = _state(folder), (folder / "there").stat().st_mtime_ns
    told = locked.result("attempt", {"what": what, "path": str(folder)}).body
    assert told["worked"] is False
    assert "denied" in told["how"] or "not permitted" in told["how"], told
    assert _state(folder) == before
    assert (folder / "there").stat().st_mtime_ns == changed


@linux_only
@pytest.mark.parametrize("what", OTHERS)
def test_reaching_out_is_refused(locked, folder, what):
    told = locked.result("attempt", {"what": what, "path": str(folder)}).body
    assert told["worked"] is False
    words = ("denied", "not permitted", "could not be started", "not implemented", "not allowed to")
    assert any(word in told["how"] for word in words), told
    assert [p.name for p in folder.iterdir()] == ["there"]


_OLDER_SYSTEM = """
import json, platform, sys
from auditor.sandbox import seccomp
from auditor.sandbox.host import Worker
from tests.sandbox.operations import OPS

if __name__ == "__main__":
    program = [(0x20, 0, 0, 0)]
    for number in json.loads(sys.argv[1]):
        program += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50026)]
    seccomp.load([*program, (0x06, 0, 0, 0x7FFF0000)], platform.machine())
    with Worker(extra_ops=OPS) as worker:
        told = {}
        for what in json.loads(sys.argv[2]):
            told[what] = worker.result("attempt", {"what": what, "path": sys.argv[3]}).body
        states = {name: [p.status, p.detail] for name, p in worker.protections.items()}
    print(json.dumps([told, states]))
"""


def _on_an_older_system(folder, missing, attempts):
    """Run attempts in a worker whose kernel refuses the system calls `missing`."""
    column = 0 if platform.machine() == "x86_64" else 1
    numbers = {"landlock": (444, 444), "unshare": (272, 97), "seccomp": (317, 277)}
    refused = [numbers[name][column] for name in missing]
    done = subprocess.run(
        [sys.executable, "-c", _OLDER_SYSTEM, json.dumps(refused), json.dumps(attempts), folder],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@linux_only
def test_the_system_call_filter_covers_for_a_missing_landlock(folder, locked):
    before = _state(folder)
    told, states = _on_an_older_system(folder, ["landlock", "unshare"], [*WRITES, "tcp", "fork"])
    assert [what for what, outcome in told.items() if outcome["worked"]] == []
    assert _state(folder) == before
    status, detail = states["no_file_writes"]
    assert status == "applied"
    assert "system call filter" in detail
    assert "not implemented" in detail
    assert states["network_namespace"][0] == "unavailable"


@linux_only
def test_without_any_mechanism_the_worker_works_and_tells(folder):
    """Only the file size limit is left: files can be made and changed in name, not filled."""
    attempts = ["mkdir", "create", "udp"]
    told, states = _on_an_older_system(folder, ["landlock", "unshare", "seccomp"], attempts)
    assert [outcome["worked"] for outcome in told.values()] == [True, False, True]
    assert "too large" in told["create"]["how"]
    for name in ("no_file_writes", "no_network", "no_programs", "network_namespace"):
        assert states[name] == ["unavailable", "Function not implemented"]


@linux_only
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("refuse_writing", [True, False])
def test_the_filter_decides_as_written(machine, refuse_writing):
    """The program is run by a small interpreter: also the one for the other processor."""
    program = seccomp.build(machine, pid=77, refuse_opening_for_writing=refuse_writing, gpu=False)
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    x86 = machine == "x86_64"

    def decide(number, *arguments, arch=arch):
        return _run_filter(program, number, arch, arguments)

    allow, eperm, enosys = 0x7FFF0000, 0x50001, 0x50026
    read, openat, clone, kill, prlimit = (0, 257, 56, 62, 302) if x86 else (63, 56, 220, 129, 261)
    assert decide(read) == allow
    assert decide(41 if x86 else 198) == eperm  # socket
    assert decide(59 if x86 else 221) == eperm  # execve
    assert decide(435) == enosys  # clone3
    assert decide(clone, 0x3D0F00) == allow  # as pthread_create does
    assert decide(clone, 17) == eperm  # as fork does
    assert (decide(kill, 77, 6), decide(kill, 1, 9)) == (allow, eperm)
    assert (decide(prlimit, 0, 7, 0), decide(prlimit, 0, 7, 1 << 40)) == (allow, eperm)
    assert decide(openat, 0, 0, 0o2000000) == allow
    assert decide(openat, 0, 0, 0o101) == (eperm if refuse_writing else allow)
    assert decide(read, arch=0x40000003) == 0x80000000
    if x86:
        assert decide(0x40000000 | 59) == 0x80000000


def _run_filter(program, number, arch, arguments):
    data = {0: number, 4: arch}
    for index in range(6):
        value = arguments[index] if index < len(arguments) else 0
        data[16 + 8 * index], data[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, constant = program[at]
        if code == 0x06:
            return constant
        if code == 0x20:
            loaded, at = data[constant], at + 1
            continue
        truth = {
            0x15: loaded == constant,
            0x35: loaded >= constant,
            0x45: bool(loaded & constant),
        }[code]
        at += 1 + (if_true if truth else if_false)


@linux_only
def test_reading_is_limited_to_what_is_named(tmp_path):
    allowed, other = tmp_path / "model.onnx", tmp_path / "secret"
    allowed.write_bytes(b"12345")
    other.write_bytes(b"hidden")
    with Worker(limits=Limits(timeout=60), readable=[allowed], extra_ops=OPS) as worker:
        worker.wait_ready()
        if worker.protections["limited_reads"].status != "applied":
            pytest.skip(worker.protections["limited_reads"].detail)
        assert worker.result("read_file", {"path": str(allowed)}).body == {"size": 5}
        (message,) = worker.call("read_file", {"path": str(other)})
        assert message.body["type"] == "PermissionError"


def test_every_protection_says_what_it_is_or_why_it_is_not(locked):
    names = {"memory", "time", "processor_time", "file_size", "open_files", "core_dumps"}
    names |= {"dies_with_parent", "killed_first", "network_namespace", "not_inspectable"}
    names |= {"no_new_privileges", "no_file_writes", "limited_reads", "no_network"}
    names |= {"no_programs", "no_system_changes", "no_privileges"}
    assert set(locked.protections) == names
    assert all(item.detail for item in locked.protections.values())
    assert locked.protections["limited_reads"].status == "off"
    assert str(locked.protections["limited_reads"]) == "off: not asked for"


def _unavailable(*arguments, **named):
    raise OSError(38, "Function not implemented")


def test_missing_mechanisms_are_told_and_do_not_stop(monkeypatch):
    monkeypatch.setattr(landlock, "restrict", _unavailable)
    monkeypatch.setattr(seccomp, "install", _unavailable)
    files = protect._files(readable=["/tmp"], gpu=False)
    assert {item.status for item in files.values()} == {"unavailable"}
    late = protect.late(files, gpu=False)
    assert set(late) == {"no_network", "no_programs", "no_system_changes"}
    assert {item.status for item in late.values()} == {"unavailable"}


def test_on_other_systems_the_linux_mechanisms_say_so(monkeypatch):
    monkeypatch.setattr(protect, "_LINUX", False)
    told = protect._files(readable=None, gpu=False)
    assert told["no_file_writes"].status == "unavailable"
    assert "needs Linux" in told["no_file_writes"].detail


def test_other_processors_have_no_filter(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(NotImplementedError, match="riscv64"):
        seccomp.install(refuse_opening_for_writing=False)


def test_the_numeric_libraries_work_locked_in(tmp_path):
    """torch (also scripted and saved to memory), scikit-learn's KMeans and onnxruntime."""
    ops = {"libraries": "tests.sandbox.test_protections:_use_libraries"}
    readable = [Path(__file__).resolve().parent]
    with Worker(
        limits=Limits(timeout=120, threads=2), readable=readable, extra_ops=ops, prewarm=["torch"]
    ) as worker:
        told = worker.result("libraries").body
    assert told == {"torch": 8.0, "script": 4.0, "kmeans": 2, "onnxruntime": 3.0}


def _use_libraries(params, arrays, emit):
    import io

    import numpy as np
    import onnx
    import onnxruntime
    import torch
    from sklearn.cluster import KMeans

    done = {"torch": float((torch.ones(2, 2) @ torch.ones(2, 2)).sum())}
    graph = "g (float[2] x) => (float[2] y) { two = Constant<value_float=2.0>() y = Add(x, two) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
    session = onnxruntime.InferenceSession(model.SerializeToString())
    points = np.array([[0.0], [0.1], [5.0], [5.1]])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.trace(torch.nn.ReLU(), torch.ones(2))
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
        buffer.seek(0)
        loaded = torch.jit.load(buffer)
        for _ in range(3):  # the profiling executor optimises on the second run
            total = loaded(torch.full((2,), 2.0)).sum()
    done["script"] = float(total)
    done["kmeans"] = len(set(KMeans(2, n_init=2, random_state=0).fit_predict(points)))
    done["onnxruntime"] = float(session.run(None, {"x": np.ones(2, "f4")})[0][0])
    return done, {}


@linux_only
def test_a_model_that_saves_a_file_when_run_saves_none(tmp_path):
    """TorchScript can call torch.save in forward; outside it does, which proves the attempt."""
    import torch

    written, model = tmp_path / "written", tmp_path / "model.pt"
    code = f"def forward(self, x):\n    torch.save(x, {str(written)!r})\n    return x * 2\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        module = torch.jit.ScriptModule()
        module.define(code)
        torch.jit.save(module, model)
        module(torch.ones(1))
    assert written.stat().st_size > 0
    written.unlink()
    ops = {"run": "tests.sandbox.test_protections:_run_script"}
    with Worker(limits=Limits(timeout=60, threads=1), readable=[model], extra_ops=ops) as worker:
        body = worker.result("run", {"model": str(model)}).body
        assert worker.protections["no_file_writes"].status == "applied"
    assert body == {"answer": 2.0}
    assert not written.exists()


def _run_script(params, arrays, emit):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        answer = torch.jit.load(params["model"])(torch.ones(1))
    return {"answer": float(answer)}, {}
