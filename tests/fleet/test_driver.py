"""A run accounts for every model, audits again only what changed, and leaves whole files."""

import csv
import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from auditor.errors import AuditError, UsageError
from auditor.fleet import driver, jobs
from auditor.fleet.disk import FullDisk
from auditor.fleet.lock import FolderLock
from auditor.fleet.store import Store
from tests.fleet.models import write, write_external, write_hostile

REAL_AUDIT = jobs.audit


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    write(folder / "a.onnx", 1)
    write(folder / "sub" / "no-extension", 2)
    write_hostile(folder / "sub" / "bad.onnx", 3)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "README.md").write_text("about")
    (folder / "samples.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / ".hidden.onnx").write_bytes(b"")
    return folder


def by_name(index):
    return {Path(m["model"]).name: m for m in index["models"]}


def events(log, name):
    return [line for line in log() if line["event"] == name]


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


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("missing", "does not exist"),
        ("empty", "there is no model in"),
        ("missing/*.onnx", "nothing matches"),
        ("", "an empty source"),
    ],
)
def test_wrong_sources_are_one_sentence(fleet, tmp_path, source, sentence):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AuditError, match=sentence):
        fleet(str(tmp_path / source) if source else "")
    assert not (tmp_path / "out").exists()


def test_a_list_with_bad_lines_audits_the_good_ones(fleet, models, index, tmp_path):
    (models / "list.txt").write_bytes(
        b"# comment\n\na.onnx\nmissing.onnx\n\xff\xfe\x00\nnope://x/y\nsub\nlist.txt\n"
        b"https://user:secret@127.0.0.1:9/m.onnx?sig=topsecret\n"
    )
    totals = fleet(models / "list.txt")
    assert totals.models == 8
    reasons = {m["model"]: m["reason"] for m in index()["models"] if m["verdict"] == "unreadable"}
    assert len(reasons) == 5
    for number, word in ((4, "does not exist"), (5, "no text"), (6, "nope"), (8, "not followed")):
        assert any(f"line {number}" in k and word in r for k, r in reasons.items()), number
    everything = "".join(
        p.read_text(errors="replace") for p in (tmp_path / "out").rglob("*") if p.is_file()
    )
    assert "topsecret" not in everything
    assert "user:secret" not in everything


def test_equal_contents_met_in_one_run_all_keep_their_result(fleet, tmp_path, index):
    for name in ("a", "b", "c"):
        write(tmp_path / "models" / f"{name}.onnx", 1)
    fleet(tmp_path / "models")
    assert {row["verdict"] for row in index()["models"]} == {"review"}
    assert len({row["sha256"] for row in index()["models"]}) == 1


def test_patterns_and_single_files(fleet, models, index):
    fleet(f"{models}/**/*.onnx", models / "sub" / "no-extension")
    assert set(by_name(index())) == {"a.onnx", "bad.onnx", "empty.onnx", "no-extension"}


def test_the_same_model_named_twice_is_one(fleet, models, index):
    totals = fleet(models, models / "a.onnx", f"{models}/*.onnx")
    assert totals.models == 4


def test_formats_that_cannot_be_audited_count_unless_they_are_skipped(fleet, tmp_path, index):
    import pickle

    folder = tmp_path / "models"
    write(folder / "a.onnx", 1)
    (folder / "weights").write_bytes(pickle.dumps({"w": [1.0] * 50}))
    assert fleet(folder).exit_code == 2
    assert by_name(index())["weights"]["verdict"] == "unreadable"
    totals = fleet(folder, skip_unsupported=True)
    assert (totals.exit_code, totals.unsupported, totals.models) == (0, 1, 2)


def test_a_store_of_a_newer_version_is_refused(fleet, models, tmp_path):
    fleet(models)
    with sqlite3.connect(tmp_path / "out" / "fleet.sqlite") as base:
        base.execute("PRAGMA user_version=99")
    base.close()
    with pytest.raises(UsageError, match=r"newer version .*store version 99"):
        fleet(models)


def test_a_file_that_is_no_store_is_refused(fleet, models, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fleet.sqlite").write_text("hello " * 500)
    with pytest.raises(UsageError, match="no result store"):
        fleet(models)


def test_a_second_driver_is_refused_with_the_firsts_name(fleet, models, tmp_path):
    with (
        FolderLock(tmp_path / "out"),
        pytest.raises(UsageError, match=f"another fleet run .process {os.getpid()} "),
    ):
        fleet(models)
    assert fleet(models).models == 4


def test_a_folder_that_cannot_be_written_is_one_sentence(fleet, models, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot write into"):
        fleet(models, out=tmp_path / "file" / "out")


def test_a_broken_link_and_a_folder_without_rights_are_entries(fleet, models, index):
    (models / "dangling.onnx").symlink_to("nowhere")
    totals = fleet(models)
    assert totals.models == 5
    assert by_name(index())["dangling.onnx"]["verdict"] == "unreadable"


def test_planning_reads_nothing_twice(fleet, models, monkeypatch):
    fleet(models)

    def never(*_):
        raise AssertionError("hashed or recognised again")

    monkeypatch.setattr("auditor.fleet.planning.digest_file", never)
    monkeypatch.setattr(
        "auditor.fleet.sources.local.classify",
        lambda path: "" if path.suffix == ".onnx" and never() else "no model",
    )
    assert fleet(models).known == 4


def test_the_index_of_ten_times_the_models_needs_no_more_memory(tmp_path):
    """The store streams: what the driver holds does not grow with the number of models."""
    import tracemalloc

    from auditor.fleet.index import write_index

    out = tmp_path / "out"
    out.mkdir()

    def peak(count):
        with Store(out) as store:
            run = store.begin_run("now", {})
            with store.transaction():
                for n in range(count):
                    store.plan(run, f"/m/{n}", "/m", f"/m/{n}", 1, "s", True, "pending")
            tracemalloc.start()
            write_index(
                store, run, out, passed=0, known=0, seconds=1.0, formats=("json",),
                skip_unsupported=False, sources=["m"],
            )  # fmt: skip
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return size

    small, large = peak(500), peak(5000)
    assert large < small + (2 << 20)
    assert len(json.loads((out / "index.json").read_text())["models"]) == 5000
