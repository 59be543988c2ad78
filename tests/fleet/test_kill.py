"""Killing the driver or its workers at any moment costs nothing but time."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.fleet.models import write, write_hostile

ROOT = Path(__file__).parents[2]
COUNT, KILLS = 100, 10


def command(models, out):
    arguments = ["--out", str(out), "--profile", "file", "--jobs", "2", "--json"]
    return [sys.executable, str(ROOT / "cli.py"), "fleet", str(models), *arguments]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def results(out):
    """Everything the run found, without what may differ from one run to the next."""
    index = json.loads((out / "index.json").read_text())
    found = {}
    for row in index["models"]:
        report = json.loads((out / row["report"]).read_text())
        for part in (report, *report["checks"], row):
            part.pop("seconds", None)
        report.pop("environment")
        found[row["model"]] = (row, report)
    return found


def done(out):
    """Results in the store, read beside the run without ever taking its write lock."""
    store = out / "fleet.sqlite"
    if not store.exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as base:
            return int(base.execute("SELECT count(*) FROM results").fetchone()[0])
    except sqlite3.OperationalError:  # made this moment, without its tables yet
        return 0


def families(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet") / "models"
    for n in range(COUNT - 3):
        write(folder / f"{n % 10}" / f"m{n}.onnx", n)
    write_hostile(folder / "bad.onnx", 1000)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "cut.onnx").write_bytes(write(folder / "0" / "m0.onnx", 0).read_bytes()[:150])
    return folder


@pytest.mark.timeout(900)
def test_a_driver_killed_ten_times_at_random_ends_with_the_results_of_an_unbroken_run(
    models, tmp_path
):
    out, whole = tmp_path / "killed", tmp_path / "whole"
    rng = random.Random(2026)
    started = time.monotonic()
    subprocess.run(command(models, whole), env=environment(), capture_output=True, check=False)
    unbroken = time.monotonic() - started
    counts = []
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(models, out), env=environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        before, end = done(out), time.monotonic() + 60
        # Some in the first moments (planning, starting workers), some after a few results.
        some = rng.choice([0, 1, rng.randint(2, 9)])
        while process.poll() is None and done(out) < before + some and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.2 * min(unbroken, 10)))
        family = families(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
        counts.append(done(out))
    assert counts == sorted(counts)  # nothing that was finished was lost
    assert any(0 < count < COUNT for count in counts)
    last = subprocess.run(
        command(models, out), env=environment(), capture_output=True, text=True, check=False
    )
    totals = json.loads(last.stdout)
    assert (totals["models"], totals["lost"], totals["not_reached"]) == (COUNT, 0, 0)
    assert totals["from_earlier_runs"] >= counts[-1] - 1  # one cut file has no hash of its own
    assert results(out) == results(whole)
    log = [json.loads(line) for line in (out / "fleet.log.jsonl").read_text().splitlines()]
    audits = [line["uri"] for line in log if line["event"] == "audited"]
    assert len(audits) <= COUNT + KILLS * 4  # the models in hand, and those behind them


@pytest.mark.timeout(300)
def test_workers_killed_again_and_again_cost_no_result(models, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(models, out), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with process:
        for target in (10, 40):
            while process.poll() is None and done(out) < target:
                time.sleep(0.02)
            assert process.returncode is None, (done(out), process.communicate())
            workers = [
                child
                for child in psutil.Process(process.pid).children()
                if any("loky" in word for word in child.cmdline())
                and not any("resource_tracker" in word for word in child.cmdline())
            ]
            assert workers
            workers[0].kill()
        totals = json.loads(process.communicate(timeout=200)[0])
    assert (totals["models"], totals["lost"], totals["failed"]) == (COUNT, 0, 0)
    assert totals["verdicts"]["unreadable"] == 2
