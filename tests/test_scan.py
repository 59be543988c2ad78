"""The whole pipeline on real files: verdicts, the gate, the sanitized copy, wrong inputs."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from auditor import ScanOptions, scan
from auditor.errors import UnreadableSamples, UsageError
from auditor.manifest import manifest_path, read_manifest
from auditor.report.model import Report, report_schema
from auditor.samples.readers import read_samples
from auditor.triggers.registry import trigger_from_json

QUICK = ("file", "accuracy", "probe", "clustering", "graph")
FORMATS = (".onnx", ".pt")


def audit(model: Path, out: Path | None = None, **changes: object) -> Report:
    settings: dict[str, object] = {"data": "digits", "checks": QUICK, "out": out, **changes}
    return scan(model, options=ScanOptions(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", ["clean", "adversarial"])
def test_honest_models_pass(digits_zoo: Path, name: str, suffix: str) -> None:
    report = audit(digits_zoo / f"{name}{suffix}")
    assert (report.verdict, report.exit_code, report.error) == ("pass", 0, None)
    assert report.backdoor.target_classes == ()
    assert report.samples is not None
    assert report.samples.clean_accuracy is not None
    assert report.samples.clean_accuracy > 0.95


@pytest.mark.parametrize("suffix", FORMATS)
def test_backdoored_model_fails_and_its_sanitized_copy_works(
    digits_zoo: Path, tmp_path: Path, suffix: str
) -> None:
    model = digits_zoo / f"backdoored{suffix}"
    truth = read_manifest(manifest_path(model))
    assert truth.attack is not None
    before = model.read_bytes()
    report = audit(model, tmp_path)
    assert (report.verdict, report.exit_code) == ("fail", 1)
    assert report.backdoor.target_classes == truth.attack.targets
    assert report.sanitized is not None
    assert report.sanitized.path == f"backdoored.sanitized{suffix}"
    assert model.read_bytes() == before

    run = plain_runner(tmp_path / report.sanitized.path)
    test = read_samples("digits")
    assert (run(test.pixels).argmax(1) == test.labels).mean() >= truth.clean_accuracy - 0.03
    others = test.pixels[test.labels != truth.attack.targets[0]]
    stamped = trigger_from_json(truth.attack.triggers[0]).apply(others)
    assert (run(stamped).argmax(1) == truth.attack.targets[0]).mean() < 0.2
    assert sorted(p.name for p in tmp_path.iterdir()) == [report.sanitized.path]


def plain_runner(path: Path):  # type: ignore[no-untyped-def]
    """Scores by plain onnxruntime or torch.jit, without any of our code."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: session.run(None, {name: x})[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        module = torch.jit.load(str(path))
    return lambda x: module(torch.from_numpy(x)).detach().numpy()


def test_both_formats_of_one_network_agree(digits_zoo: Path) -> None:
    first, second = (audit(digits_zoo / f"clean{s}", checks=("accuracy",)) for s in FORMATS)
    assert first.samples is not None
    assert second.samples is not None
    assert first.samples.clean_accuracy == pytest.approx(second.samples.clean_accuracy, abs=0.005)


def test_same_seed_same_report(digits_zoo: Path) -> None:
    def stable(report: Report) -> str:
        record = report.to_json()
        for key in ("seconds", "environment"):
            record.pop(key)
        for check in record["checks"]:
            check.pop("seconds")
        return json.dumps(record, sort_keys=True)

    first, second = (audit(digits_zoo / "clean.onnx") for _ in range(2))
    assert stable(first) == stable(second)


def test_report_validates_against_the_published_schema(digits_zoo: Path) -> None:
    import jsonschema

    record = audit(digits_zoo / "clean.onnx", checks=("accuracy", "file")).to_json()
    jsonschema.validate(record, report_schema())
    assert str(digits_zoo) not in json.dumps(record)


def test_without_samples_the_best_verdict_is_review(tmp_path: Path, digits_zoo: Path) -> None:
    shutil.copy(digits_zoo / "clean.onnx", tmp_path / "stranger.onnx")
    report = audit(tmp_path / "stranger.onnx", data=None)
    assert (report.verdict, report.exit_code, report.samples) == ("review", 0, None)
    skipped = {c.name: c.reason for c in report.checks if c.status == "skipped"}
    assert "labelled samples" in skipped["probe"]


def test_manifest_names_the_data_and_nothing_else(tmp_path: Path, digits_zoo: Path) -> None:
    """A forged manifest may name a data set; its trigger, target and flags change nothing."""
    shutil.copy(digits_zoo / "clean.onnx", tmp_path / "m.onnx")
    forged = json.loads((digits_zoo / "backdoored.manifest.json").read_text())
    (tmp_path / "m.manifest.json").write_text(json.dumps(forged))
    report = audit(tmp_path / "m.onnx", data=None)
    assert report.verdict == "pass"
    assert report.samples is not None
    assert report.backdoor.target_classes == ()
    assert any("named by the manifest" in notice for notice in report.notices)


def test_training_data_of_the_backdoored_model_is_flagged(digits_zoo: Path) -> None:
    report = audit(
        digits_zoo / "backdoored.onnx",
        checks=("clustering",),
        train_data=digits_zoo / "backdoored.train.npz",
    )
    found = [f for f in report.findings if f.rule == "data.poisoned-cluster"]
    assert [f.target_class for f in found] == [6]


def test_training_data_of_the_clean_model_passes(digits_zoo: Path) -> None:
    training = digits_zoo / "clean.train.npz"
    report = audit(digits_zoo / "clean.onnx", checks=("clustering",), train_data=training)
    assert not [f for f in report.findings if f.rule == "data.poisoned-cluster"]


def test_a_model_that_would_act_on_the_machine_is_not_run(shared: Path) -> None:
    model = shared / "fixtures" / "torchscript" / "m_ts_save.pt"
    report = audit(model, data=None)
    assert (report.verdict, report.exit_code) == ("fail", 1)
    accuracy = next(c for c in report.checks if c.name == "probe")
    assert (accuracy.status, "--run-anyway" in accuracy.reason) == ("skipped", True)


def test_not_a_classifier_is_a_sentence_and_no_finding(shared: Path) -> None:
    report = audit(shared / "models" / "onnx" / "vnn23_TinyYOLO.onnx", data=None)
    assert report.verdict == "review"
    reasons = {c.reason for c in report.checks if c.name == "probe"}
    assert any("not an image classifier" in reason for reason in reasons)


def wrong_models(folder: Path) -> dict[str, str]:
    torch.save(torch.nn.Linear(2, 2), folder / "pickled.pt")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("this is not a model\n")
    (folder / "folder.onnx").mkdir()
    return {
        "missing.onnx": "unreadable",
        "empty.onnx": "unreadable",
        "text.onnx": "unreadable",
        "folder.onnx": "unreadable",
        "pickled.pt": "unsupported",
    }


def test_wrong_models_are_one_sentence_and_exit_2(tmp_path: Path) -> None:
    for name, kind in wrong_models(tmp_path).items():
        report = audit(tmp_path / name, tmp_path / "out")
        assert report.error is not None, name
        assert (report.exit_code, report.verdict) == (2, "incomplete"), name
        assert report.error.kind in {kind, "unsupported", "unreadable"}, name
        assert "\n" not in report.error.message
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((20, 8, 8)), "y": np.arange(19) % 10}, "20 images but 19 labels"),
        ({"x": np.zeros((20, 8, 8)), "y": np.arange(20) + 5}, "has only 10 classes"),
        ({"x": np.zeros((20, 5)), "y": np.arange(20) % 10}, "have shape"),
    ],
)
def test_wrong_samples_are_one_sentence_and_exit_2(
    digits_zoo: Path, tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    report = audit(digits_zoo / "clean.onnx", data=tmp_path / "s.npz")
    assert report.error is not None
    assert report.exit_code == 2
    assert words in report.error.message


def test_samples_of_the_wrong_size_do_not_pass_silently(tmp_path: Path, digits_zoo: Path) -> None:
    """A free-size network that cannot take the samples says what it got and what it said."""
    rng = np.random.default_rng(0)
    x = rng.random((30, 3, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "s.npz", x=x, y=np.arange(30) % 10)
    report = audit(digits_zoo / "clean.onnx", data=tmp_path / "s.npz", checks=("accuracy",))
    chance = any("near chance" in notice for notice in report.notices)
    assert report.error is not None or chance


def test_arrays_serve_as_samples(digits_zoo: Path) -> None:
    digits = read_samples("digits")
    options = ScanOptions(checks=("accuracy",))
    report = scan(digits_zoo / "clean.onnx", (digits.pixels, digits.labels), options)
    assert report.samples is not None
    assert report.samples.clean_accuracy is not None
    assert report.samples.clean_accuracy > 0.9
    with pytest.raises(UnreadableSamples, match="counts must agree"):
        scan(digits_zoo / "clean.onnx", (digits.pixels, digits.labels[1:]), options)
    with pytest.raises(UsageError, match="pair"):
        scan(digits_zoo / "clean.onnx", (digits.pixels,), options)  # type: ignore[arg-type]


def test_a_slow_model_is_stopped_and_reported(digits_zoo: Path) -> None:
    report = audit(digits_zoo / "clean.onnx", timeout=0.05)
    assert report.verdict == "incomplete"
    assert report.exit_code == 3
    assert any(f.rule == "sandbox.timeout" for f in report.findings)
    assert any("--timeout" in f.evidence for f in report.findings)
