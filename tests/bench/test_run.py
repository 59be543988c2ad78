import pytest

from auditor.app import run as audit
from auditor.bench import run as bench_run
from auditor.bench.measure import Job, models_below
from auditor.bench.rows import read
from auditor.errors import UsageError
from tests.bench.made_up import row, rows


def job(index, **more):
    return Job(f"/nowhere/m{index}.onnx", f"m{index}.onnx", **more)


def test_a_second_run_measures_only_what_is_missing(tmp_path, monkeypatch):
    seen = []

    def measured(one):
        seen.append(one.name)
        return row(int(one.name[1:-5]), False, baselines={})

    monkeypatch.setattr(bench_run, "measure", measured)
    bench_run.run([job(1), job(2)], tmp_path)
    store = tmp_path / bench_run.ROWS
    store.write_bytes(store.read_bytes() + b'{"model": "m3.on')  # killed while writing
    told = []
    found = bench_run.run([job(1), job(2), job(3)], tmp_path, told=told.append)
    assert seen == ["m1.onnx", "m2.onnx", "m3.onnx"]
    assert [r.model for r in found] == seen
    assert [state.done for state in told] == [2, 3]
    assert len(read(store)) == 3


def test_a_baseline_asked_for_later_is_measured_then(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_run, "measure", lambda one: row(1, False))
    bench_run.run([job(1)], tmp_path)
    again = []
    monkeypatch.setattr(bench_run, "measure", lambda one: again.append(one) or row(1, False))
    bench_run.run([job(1, against=("mm-bd",))], tmp_path)
    assert again == []
    bench_run.run([job(1, against=("neural-cleanse",))], tmp_path)
    assert len(again) == 1


def test_other_samples_or_seed_are_other_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_run, "measure", lambda one: row(1, False, samples=one.samples))
    bench_run.run([job(1)], tmp_path)
    bench_run.run([job(1, samples=0)], tmp_path)
    assert len(read(tmp_path / bench_run.ROWS)) == 2


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_folders_without_models(tmp_path, folder, capsys):
    (tmp_path / "empty").mkdir()
    assert audit(["bench", str(tmp_path / folder), "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.startswith("audit: ")


def test_a_model_without_manifest_is_not_taken(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"x")
    assert list(models_below(tmp_path, ("onnx", "pt"))) == []
    (tmp_path / "a.manifest.json").write_text("{}")
    assert [p.name for p in models_below(tmp_path, ("onnx", "pt"))] == ["a.onnx"]
    with pytest.raises(UsageError, match=r"no \.onnx or \.pt model"):
        bench_run.jobs_for(
            tmp_path, ("onnx", "pt"), samples=500, seed=0, data=None, data_root=None, against=(),
            budget=1.0,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a folder"),
        (["X", "--from", "Y"], "give a folder"),
        (["X", "--samples", "5"], "--samples must be"),
        (["X", "--formats", "h5"], "--formats must be"),
        (["X", "--against", "nc"], "--against knows"),
        (["X", "--calibration", "no.json"], "cannot read the calibration"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert audit(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_tables_files_and_coefficients_from_rows(tmp_path, capsys, monkeypatch):
    from auditor.bench.rows import write_csv
    from auditor.calibration.model import load

    monkeypatch.chdir(tmp_path)
    write_csv(rows(), tmp_path / "rows.csv")
    fitted = ["calibrate", "rows.csv", "--out", "c.json", "--population", "made up"]
    assert audit(fitted) == 0
    assert set(load(tmp_path / "c.json")) == {"samples", "data-free"}
    judged = ["bench", "--from", "rows.csv", "--calibration", "c.json", "--out", "out", "-q"]
    assert audit(judged) == 0
    shown = capsys.readouterr().out
    assert "fitted on 48 models" in shown.replace("\n", " ")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "rows.csv",
        "bench.html",
        "roc.png",
        "reliability.png",
        "times.png",
    }


def test_rows_are_judged_by_the_coefficients_of_their_kind(tmp_path, capsys, monkeypatch):
    from auditor.bench.rows import write_csv

    monkeypatch.chdir(tmp_path)
    write_csv(rows(samples=0), tmp_path / "free.csv")
    write_csv(rows(), tmp_path / "with.csv")
    assert audit(["calibrate", "free.csv", "--out", "c.json"]) == 0
    judged = ["--calibration", "c.json", "--out", "out", "-q"]
    assert audit(["bench", "--from", "free.csv", *judged]) == 0
    assert audit(["bench", "--from", "with.csv", *judged]) == 2
    assert "no calibration for audits of this kind (samples)" in capsys.readouterr().err


def test_a_poor_fit_is_not_written(tmp_path, capsys):
    from auditor.bench.rows import write_csv

    write_csv(rows(shift=0.0), tmp_path / "rows.csv")
    out = tmp_path / "c.json"
    assert audit(["calibrate", str(tmp_path / "rows.csv"), "--out", str(out)]) == 2
    assert "no calibration is defensible" in capsys.readouterr().err
    assert not out.exists()
