"""``audit data`` from the command line: files, exit codes, sentences."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from auditor.app import run
from auditor.samples.ordered import read_ordered
from tests.poison.sets import poisoned, shapes


@pytest.fixture(scope="module")
def poisoned_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    study, bad = poisoned()
    path = tmp_path_factory.mktemp("data") / "set.npz"
    np.savez(path, x=study.suspects.pixels, y=study.labels)
    return path, bad


def test_a_poisoned_set_without_a_model(
    poisoned_set: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, bad = poisoned_set
    before = path.read_bytes()
    out, clean = tmp_path / "out", tmp_path / "clean"
    code = run(
        ["data", str(path), "--out", str(out), "--write-clean", str(clean), "--jobs", "1",
         "--parquet",
         "--format", "table,html,markdown", "--no-color"]
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert code == 1
    assert "FAIL" in shown
    assert "own was trained" in " ".join(shown.split())
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == "fail"
    assert report["backdoor"]["target_classes"] == [2]
    assert report["artifact"]["format"] == "training data"
    with (out / "samples.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(bad)
    typed = parquet.read_table(out / "samples.parquet").to_pylist()
    assert [(r["index"], r["label"]) for r in typed] == [
        (int(r["index"]), int(r["label"])) for r in rows
    ]
    assert all(isinstance(r["flagged"], bool) for r in typed)
    flagged = {int(r["index"]) for r in rows if r["flagged"] == "true"}
    assert len(flagged & set(np.flatnonzero(bad).tolist())) >= 0.95 * bad.sum()
    kept = {int(line) for line in (out / "clean-index.txt").read_text().split()}
    assert kept == set(range(len(bad))) - flagged
    assert len(read_ordered(clean / "set.npz")) == len(kept)
    assert path.read_bytes() == before
    for name in ("montage.png", "projections.png", "trigger-2.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "data.trigger" in (out / "report.html").read_text()


def test_with_the_model_trained_on_it(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, expected in (("clean", 0), ("backdoored", 1)):
        code = run(
            ["data", str(digits_zoo / f"{name}.train.npz"), "--model",
             str(digits_zoo / f"{name}.onnx"), "--out", str(tmp_path / name), "--json",
             "--jobs", "1", "--no-images"]
        )  # fmt: skip
        report = json.loads(capsys.readouterr().out)
        assert (code, report["exit_code"]) == (expected, expected)
        if name == "clean":
            assert report["verdict"] == "pass"
            assert report["metrics"]["data.flagged_share"] <= 0.01
    record = json.loads((digits_zoo / "backdoored.manifest.json").read_text())
    bad = set(record["attack"]["poisoned"])
    kept = {int(i) for i in (tmp_path / "backdoored" / "clean-index.txt").read_text().split()}
    assert len(bad & kept) <= 0.05 * len(bad)
    assert not (tmp_path / "backdoored" / "montage.png").exists()


def test_a_model_of_another_set_is_no_reason_to_call_this_one_clean(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(digits_zoo / "clean.train.npz") as archive:
        flat = archive["x"].reshape(len(archive["x"]), -1)
        mixed = flat[:, np.random.default_rng(0).permutation(flat.shape[1])]
        path = _set(tmp_path, mixed.reshape(archive["x"].shape), archive["y"])
    words = ["data", path, "--model", str(digits_zoo / "clean.onnx"), "--jobs", "1"]
    run([*words, "--out", str(tmp_path / "o"), "--format", "json,markdown"])
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["verdict"] != "pass"
    assert any("hardly have been trained on this set" in reason for reason in report["reasons"])
    assert "parameters" not in (tmp_path / "o" / "report.md").read_text().split("SHA")[0]
    capsys.readouterr()


def test_a_goal_that_cannot_be_written_is_told_before_the_work(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    goal = tmp_path / "file" / "clean"
    source = str(digits_zoo / "clean.train.npz")
    assert run(["data", source, "--write-clean", str(goal), "--out", str(tmp_path / "o")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def _set(folder: Path, x: np.ndarray, y: np.ndarray) -> str:
    np.savez(folder / "few.npz", x=x, y=y)
    return str(folder / "few.npz")


def test_three_samples_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = shapes(3)
    assert run(["data", _set(tmp_path, images, labels), "--out", str(tmp_path / "o")]) == 2
    assert "at least 10 are needed" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_single_class_and_copies_are_said_and_accuse_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, _ = shapes(60)
    images[50:] = images[0]
    path = _set(tmp_path, images, np.zeros(60, np.int64))
    code = run(["data", path, "--out", str(tmp_path / "o"), "--json", "--jobs", "1"])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["metrics"]["data.flagged"] == 0
    assert report["verdict"] == "review"
    skipped = {c["name"]: c["reason"] for c in report["checks"] if c["status"] == "skipped"}
    assert "single class" in skipped["data.labels"]
    assert "exact copies" in " ".join(n for c in report["checks"] for n in c.get("notices", []))


def test_labels_the_model_does_not_know_are_one_sentence(
    digits_zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(digits_zoo / "clean.train.npz") as archive:
        path = _set(tmp_path, archive["x"][:200], archive["y"][:200] + 5)
    model = str(digits_zoo / "clean.onnx")
    assert run(["data", path, "--model", model, "--out", str(tmp_path / "o")]) == 2
    assert "classes" in capsys.readouterr().err


def test_impossible_goals_are_refused_before_the_work(
    poisoned_set: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("x")
    code = run(["data", str(poisoned_set[0]), "--write-clean", str(tmp_path)])
    assert code == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert run(["data", str(tmp_path / "none.npz")]) == 2
    assert "does not exist" in capsys.readouterr().err


SMALL = np.zeros((30, 1, 8, 8), np.uint8)
CLASSES = np.arange(30) % 3


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": SMALL, "y": CLASSES[:20]}, "30 images but 20 labels"),
        ({"x": SMALL, "y": CLASSES - 1}, "whole numbers from 0 up"),
        ({"x": SMALL, "y": CLASSES + 0.5}, "whole numbers from 0 up"),
        ({"x": SMALL}, "must hold arrays x and y"),
        ({"x": np.full(SMALL.shape, np.nan, np.float32), "y": CLASSES}, "NaN"),
    ],
)
def test_wrong_arrays_are_one_sentence(
    arrays: dict[str, np.ndarray], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert run(["data", str(tmp_path / "wrong.npz"), "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


def _folder(path: Path, sides: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    for number in range(20):
        folder = path / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        side = sides[number // 10]
        pixels = rng.integers(0, 255, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return path


def test_mixed_sizes_ask_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _folder(tmp_path / "mixed", (8, 12))
    assert run(["data", str(source), "--out", str(tmp_path / "o")]) == 2
    assert "say --size" in capsys.readouterr().err


def test_corrupt_images_are_counted_and_too_few_samples_are_no_clean_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _folder(tmp_path / "corrupt", (8, 8))
    (source / "a" / "0.png").write_bytes(b"\x89PNG broken")
    code = run(["data", str(source), "--out", str(tmp_path / "o"), "--json", "--jobs", "1"])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert any("1 of 20 images cannot be decoded" in n for n in report["notices"])
    assert report["verdict"] == "review"
    assert any("No method that can accuse" in r for r in report["reasons"])
