"""What a run may be pointed at, what refuses it, and what planning costs."""

import json
import os
import sqlite3

import pytest

from auditor.errors import AuditError, UsageError
from auditor.fleet.lock import FolderLock
from auditor.fleet.store import Store
from tests.fleet.models import by_name, write


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
