"""A run accounts for every model, audits again only what changed, and leaves whole files."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from auditor.fleet import driver, jobs
from auditor.fleet.disk import FullDisk
from auditor.fleet.store import Store
from tests.fleet.models import by_name, events, write, write_external

REAL_AUDIT = jobs.audit


def test_every_model_is_found_by_content_and_accounted_for(fleet, index, models, tmp_path):
    totals = fleet(models)
    rows = by_name(index())
    assert set(rows) == {"a.onnx", "no-extension", "bad.onnx", "empty.onnx"}
    assert {n: r["verdict"] for n, r in rows.items()} == {
        "a.onnx": "review",
        "no-extension": "review",
        "bad.onnx": "fail",
        "empty.onnx": "unreadable",
    }
    assert (totals.models, totals.exit_code, totals.passed) == (4, 1, 2)
    assert index()["exit_code"] == 1
    assert next(iter(index()["models"]))["verdict"] == "fail"  # worst first
    for row in index()["models"]:
        report = json.loads((tmp_path / "out" / row["report"]).read_text())
        assert report["artifact"]["path"] == row["model"]
        assert not row["model"].startswith("/")
        assert str(tmp_path) not in json.dumps(report)


def test_a_second_run_audits_nothing_and_a_change_only_what_changed(fleet, index, models, log):
    fleet(models)
    first = by_name(index())
    assert len(events(log, "audited")) == 4
    assert fleet(models).known == 4
    assert len(events(log, "audited")) == 4
    write(models / "a.onnx", 77)
    (models / "sub" / "bad.onnx").unlink()
    totals = fleet(models)
    assert (totals.models, totals.known) == (3, 2)
    assert len(events(log, "audited")) == 5
    assert by_name(index())["a.onnx"]["sha256"] != first["a.onnx"]["sha256"]
    assert "bad.onnx" not in by_name(index())


def test_content_decides_not_time_or_name(fleet, models, log, index):
    fleet(models)
    os.utime(models / "a.onnx", (1, 1))
    shutil.copy(models / "a.onnx", models / "copy.onnx")
    totals = fleet(models)
    assert (totals.models, totals.known) == (5, 5)
    assert len(events(log, "audited")) == 4
    rows = by_name(index())
    assert rows["copy.onnx"]["sha256"] == rows["a.onnx"]["sha256"]
    assert rows["copy.onnx"]["report"] != rows["a.onnx"]["report"]


def test_another_configuration_is_another_result(fleet, models, log):
    fleet(models)
    fleet(models, scan={"skip": ("file.trigger",)})
    assert len(events(log, "audited")) == 8
    fleet(models)
    assert len(events(log, "audited")) == 8


def test_external_data_is_part_of_the_content(fleet, tmp_path, log, index):
    folder = tmp_path / "models"
    folder.mkdir()
    write_external(folder / "m.onnx", 5)
    fleet(folder)
    assert fleet(folder).known == 1
    data = folder / "weights.bin"
    data.write_bytes(data.read_bytes()[::-1])
    assert fleet(folder).known == 0
    assert len(events(log, "audited")) == 2
    assert index()["totals"]["models"] == 1


def test_a_removed_report_is_written_again_without_an_audit(fleet, models, index, tmp_path, log):
    fleet(models)
    lost = tmp_path / "out" / index()["models"][0]["report"]
    lost.unlink()
    fleet(models)
    assert lost.exists()
    assert len(events(log, "audited")) == 4


def test_a_model_that_kills_its_worker_is_incomplete_with_the_reason(
    fleet, models, index, monkeypatch, log
):
    monkeypatch.setattr(driver.jobs, "audit", _dies_on_a)
    totals = fleet(models, jobs=1)
    row = by_name(index())["a.onnx"]
    assert (row["verdict"], row["exit_code"], totals.lost) == ("incomplete", 3, 1)
    assert "the worker died" in row["reason"]
    assert len(events(log, "audited")) == 3
    monkeypatch.undo()
    assert fleet(models).lost == 1  # remembered: it is not tried again
    totals = fleet(models, retry=True)
    assert (totals.lost, by_name(index())["a.onnx"]["verdict"]) == (0, "review")


def _dies_on_a(job):
    if job.path.endswith("a.onnx"):
        os.abort()
    return REAL_AUDIT(job)


def test_budget_leaves_the_rest_for_the_next_run(fleet, models, index, log):
    totals = fleet(models, budget=1e-6)
    assert (totals.pending, totals.exit_code) == (4, 3)
    assert "--budget" in index()["models"][0]["reason"]
    assert "report" not in index()["models"][0]
    assert fleet(models).pending == 0


def test_a_file_that_vanishes_is_a_failure_of_that_model_and_tried_again(
    fleet, models, index, monkeypatch
):
    monkeypatch.setattr(driver.jobs, "audit", _removes_a)
    totals = fleet(models)
    assert totals.failed == 1
    assert by_name(index())["a.onnx"]["exit_code"] == 2
    monkeypatch.undo()
    write(models / "a.onnx", 1)
    assert fleet(models).failed == 0


def _removes_a(job):
    if job.path.endswith("a.onnx"):
        Path(job.path).unlink()
    return REAL_AUDIT(job)


def test_a_file_that_changes_while_it_is_audited_is_not_filed(tmp_path, monkeypatch):
    from auditor import scanning
    from auditor.options import ScanOptions

    path = write(tmp_path / "a.onnx", 1)
    assert jobs._warm()  # of this process, as in a worker
    real = scanning.scan

    def scan(model, **options):
        report = real(model, **options)
        write(path, 2)
        os.utime(path, (5, 5))
        return report

    monkeypatch.setattr(scanning, "scan", scan)
    options = ScanOptions(profile="file", sanitize=False)
    done = jobs.audit(jobs.Job(1, str(path), str(path), "a.onnx", options))
    assert done.kind == "failed"
    assert "changed while" in done.reason


def test_a_worker_of_another_version_says_so(tmp_path):
    from auditor.options import ScanOptions

    path = write(tmp_path / "a.onnx")
    job = jobs.Job(1, str(path), str(path), "a.onnx", ScanOptions(profile="file"), tool="9.9")
    assert "has version" in jobs.audit(job).reason


def test_the_csv_holds_every_model_and_no_formula(fleet, models, tmp_path):
    write(models / "=cmd.onnx", 9)
    fleet(models)
    with (tmp_path / "out" / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5
    assert not any(cell[:1] in "=+-@" for row in rows for cell in row.values() if cell)


def test_the_page_loads_nothing_and_escapes_names(fleet, models, tmp_path):
    write(models / "<script>alert(1)<.onnx", 9)
    fleet(models, formats=("json", "html"))
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r'(src|href)="(https?:)?//', page)
    links = re.findall(r'href="(reports/[^"]+)"', page)
    assert len(links) == 5
    assert all((tmp_path / "out" / link).read_text().startswith("<!doctype") for link in links)


@pytest.mark.parametrize("when", ["recording", "reports", "index"])
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(
    fleet, models, monkeypatch, when, log, index
):
    real_record, count = Store.record, []

    def full(*_):
        raise OSError(28, "No space left on device")

    def record(self, *arguments):
        count.append(1)
        if len(count) == 3:
            self._base.execute("PRAGMA max_page_count=1")  # SQLite's own "disk is full"
        return real_record(self, *arguments)

    if when == "recording":
        monkeypatch.setattr(Store, "record", record)
    else:
        name = "auditor.fleet.reports._write" if when == "reports" else "auditor.fleet.index._csv"
        monkeypatch.setattr(name, full)
    with pytest.raises(FullDisk, match=r"no space left in .*run the same command again"):
        fleet(models)
    monkeypatch.undo()
    before = len(events(log, "audited"))
    assert before >= {"recording": 2, "reports": 1, "index": 4}[when]
    totals = fleet(models)
    assert totals.models == 4
    assert totals.known >= before
    assert len(index()["models"]) == 4
