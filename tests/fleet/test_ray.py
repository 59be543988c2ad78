"""The same run on a Ray cluster of two nodes on this machine: same reports, and a node may die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.fleet.models import write, write_hostile

ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
COUNT = 200
MIB = 1 << 20


def node(*arguments):
    """Start one Ray node as an administrator would, with little memory."""
    command = [str(Path(sys.executable).parent / "ray"), "start", *arguments]
    command += ["--num-cpus=1", f"--object-store-memory={200 * MIB}", "--disable-usage-stats"]
    before = raylets()
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=150, check=False
    )
    if done.returncode:
        stop_since(before)
        pytest.skip(f"a Ray node does not start here: {(done.stdout + done.stderr)[-300:]}")
    return raylets() - before


def environment(**more):
    return {**os.environ, "RAY_agent_register_timeout_ms": "120000", **more}


def raylets():
    """Every process of Ray's own, by number."""
    found = set()
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "/ray/" in words and any(
            w in words for w in ("raylet", "gcs_server", "dashboard", "ray::")
        ):
            found.add(process.info["pid"])
    return found


def stop_since(before):
    for pid in raylets() - before:
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()


@pytest.fixture
def cluster():
    """(address, processes of the second node)."""
    before = raylets()
    port = 36379
    try:
        node(
            "--head",
            f"--port={port}",
            "--include-dashboard=false",
            "--ray-client-server-port=36380",
        )
        second = node(f"--address=127.0.0.1:{port}")
        yield f"127.0.0.1:{port}", second
    finally:
        stop_since(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray") / "models"
    for n in range(COUNT - 2):
        write(folder / f"m{n}.onnx", n)
    write_hostile(folder / "bad.onnx", 1000)
    (folder / "empty.onnx").write_bytes(b"")
    return folder


def start(models, out, address, jobs, cluster="ray"):
    command = [sys.executable, str(ROOT / "cli.py"), "fleet", str(models), "--out", str(out)]
    command += ["--profile", "file", "--json", "--jobs", str(jobs)]
    command += ["--cluster", cluster] if address else []
    extra = {"RAY_ADDRESS": address} if address else {}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(**extra))


def results(out):
    index = json.loads((out / "index.json").read_text())
    found = {}
    for row in index["models"]:
        report = json.loads((out / row["report"]).read_text())
        for part in (report, *report["checks"], row):
            part.pop("seconds", None)
        report.pop("environment")
        found[row["model"]] = (row, report)
    return found


@pytest.mark.timeout(900)
def test_two_nodes_give_the_same_reports_and_losing_one_loses_nothing(
    cluster, models, tmp_path, capsys
):
    address, second = cluster
    local = start(models, tmp_path / "local", None, 2)
    assert json.loads(local.communicate(timeout=300)[0])["models"] == COUNT
    seconds = {}
    for jobs in (1, 2):
        out = tmp_path / f"ray{jobs}"
        started = time.monotonic()
        totals = json.loads(start(models, out, address, jobs).communicate(timeout=300)[0])
        seconds[jobs] = time.monotonic() - started
        assert (totals["models"], totals["lost"], totals["failed"]) == (COUNT, 0, 0)
        assert results(out) == results(tmp_path / "local")
    with capsys.disabled():
        print(f"\n1 worker {seconds[1]:.1f} s, 2 workers {seconds[2]:.1f} s, "
              f"speed-up {seconds[1] / seconds[2]:.2f}")  # fmt: skip
    out = tmp_path / "broken"
    process = start(models, out, address, 2)
    while process.poll() is None and audited(out) < 8:
        time.sleep(0.05)
    for pid in second:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
    totals = json.loads(process.communicate(timeout=400)[0])
    assert audited(out) >= COUNT
    assert (totals["models"], totals["lost"], totals["failed"]) == (COUNT, 0, 0)
    assert results(out) == results(tmp_path / "local")


def audited(out):
    log = out / "fleet.log.jsonl"
    return log.read_text().count('"audited"') if log.exists() else 0


@pytest.mark.timeout(300)
def test_the_client_address_works_too(cluster, models, tmp_path):
    process = start(models, tmp_path / "out", "x", 2, cluster="ray://127.0.0.1:36380")
    totals = json.loads(process.communicate(timeout=250)[0])
    assert totals["models"] == COUNT
