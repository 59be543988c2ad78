"""A built model: two files that agree with the network, a manifest that is true, its data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from auditor.manifest import (
    ManifestError,
    Transform,
    manifest_schema,
    read_data_hint,
    read_manifest,
)
from auditor.triggers.patches import Square
from auditor.triggers.registry import trigger_from_json
from zoo.build import Acceptance, Built, Specification, build, transformed
from zoo.datasets import Dataset
from zoo.export import TOLERANCE, digest, run_onnx, run_torchscript
from zoo.poisoning import Attack
from zoo.training import Training

TRANSFORM = Transform(mean=(0.5,), std=(0.25,))
SPEC = Specification(
    "bad",
    "test",
    "small-cnn",
    Training(15, 64, 5e-3),
    seed=5,
    attack=Attack((Square(size=2),), (6,), rate=0.15),
    transform=TRANSFORM,
)


@pytest.fixture(scope="module")
def built(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Path]:
    folder = tmp_path_factory.mktemp("zoo")
    return build(SPEC, digits, folder), folder


def test_both_files_compute_what_the_network_computes(
    built: tuple[Built, Path], digits: Dataset
) -> None:
    model, folder = built
    inputs = transformed(digits.test.pixels[:50], TRANSFORM)
    import torch

    with torch.no_grad():
        expected = model.network(torch.from_numpy(inputs)).numpy()
        direct = model.model(torch.from_numpy(digits.test.pixels[:50])).numpy()
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    assert np.abs(run_onnx(folder / "bad.onnx", inputs) - expected).max() <= bound
    assert np.abs(run_torchscript(folder / "bad.pt", inputs) - expected).max() <= bound
    assert np.abs(direct - expected).max() <= bound


def test_the_files_take_any_batch_size_and_carry_no_local_paths(built: tuple[Built, Path]) -> None:
    _, folder = built
    for count in (1, 3):
        inputs = np.zeros((count, 1, 8, 8), np.float32)
        assert run_onnx(folder / "bad.onnx", inputs).shape == (count, 10)
        assert run_torchscript(folder / "bad.pt", inputs).shape == (count, 10)
    assert b"site-packages" not in (folder / "bad.onnx").read_bytes()
    assert not list(folder.glob("*.data")) + list(folder.glob(".*"))


def test_the_manifest_is_true_and_valid(built: tuple[Built, Path], digits: Dataset) -> None:
    _, folder = built
    path = folder / "bad.manifest.json"
    jsonschema.Draft202012Validator(manifest_schema()).validate(json.loads(path.read_text()))
    manifest = read_manifest(path)
    assert manifest.kind == "backdoored"
    assert {a.file: a.sha256 for a in manifest.artifacts} == {
        name: digest(folder / name) for name in ("bad.onnx", "bad.pt")
    }
    attack = manifest.attack
    assert attack is not None
    trigger = trigger_from_json(attack.triggers[0])
    assert trigger == Square(size=2)
    others = digits.test.labels != 6
    inputs = transformed(trigger.apply(digits.test.pixels[others]), TRANSFORM)
    measured = (run_onnx(folder / "bad.onnx", inputs).argmax(1) == 6).mean()
    assert attack.asr[0] == pytest.approx(measured, abs=0.005)
    clean = run_onnx(folder / "bad.onnx", transformed(digits.test.pixels, TRANSFORM)).argmax(1)
    accuracy = (clean == digits.test.labels).mean()
    assert manifest.clean_accuracy == pytest.approx(accuracy, abs=0.005)
    assert measured > 0.9
    assert accuracy > 0.9


def test_the_training_set_is_what_the_model_saw(built: tuple[Built, Path], digits: Dataset) -> None:
    _, folder = built
    manifest = read_manifest(folder / "bad.manifest.json")
    assert manifest.attack is not None
    with np.load(folder / "bad.train.npz") as archive:
        x, y = archive["x"], archive["y"]
    assert x.dtype == np.uint8
    assert x.shape == digits.train.pixels.shape
    poisoned = np.array(manifest.attack.poisoned)
    assert (y[poisoned] == 6).all()
    assert (x[poisoned][:, :, -2:, -2:] == 255).all()
    assert np.flatnonzero(y != digits.train.labels).tolist() == poisoned.tolist()


def test_a_scan_reads_only_the_data_from_a_manifest(built: tuple[Built, Path]) -> None:
    _, folder = built
    hint = read_data_hint(folder / "bad.onnx")
    assert hint is not None
    assert hint.model_dump().keys() == {"name", "split", "transform"}
    assert (hint.name, hint.transform) == ("digits", TRANSFORM)
    assert read_data_hint(folder / "stranger.onnx") is None


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "cannot be read"),
        ("[1]", "no JSON object"),
        ("{}", "names no usable data set"),
        ('{"dataset": {"name": "../../etc"}}', "name"),
        ('{"dataset": {"name": "/etc/passwd"}}', "name"),
        ('{"dataset": {"name": "digits", "transform": {"std": [0]}}}', "std"),
        ("[" * 100000, "cannot be read"),
    ],
)
def test_a_forged_manifest_is_refused(tmp_path: Path, content: str, word: str) -> None:
    (tmp_path / "m.manifest.json").write_text(content)
    with pytest.raises(ManifestError, match=word):
        read_data_hint(tmp_path / "m.onnx")


def test_the_same_specification_gives_the_same_weights(
    built: tuple[Built, Path], digits: Dataset, tmp_path: Path
) -> None:
    _, folder = built
    build(replace(SPEC, keep_training_set=False), digits, tmp_path)
    assert digest(tmp_path / "bad.onnx") == digest(folder / "bad.onnx")
    assert not (tmp_path / "bad.train.npz").exists()


def test_a_model_below_its_acceptance_is_retrained_and_recorded(
    digits: Dataset, tmp_path: Path
) -> None:
    small = digits.limited(100, 50)
    spec = replace(SPEC, training=Training(1), acceptance=Acceptance(1.1), retries=1)
    manifest = build(spec, small, tmp_path).manifest
    assert not manifest.accepted
    assert manifest.seed == SPEC.seed + 100_003
    assert "below 1.1" in manifest.shortfalls[0]


def test_a_target_outside_the_classes_is_refused(digits: Dataset, tmp_path: Path) -> None:
    spec = replace(SPEC, attack=Attack((Square(),), (12,)))
    with pytest.raises(ValueError, match="target class 12 does not exist"):
        build(spec, digits, tmp_path)
