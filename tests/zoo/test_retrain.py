"""Training again on a cleaned set: what goes in, what comes out, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from auditor.errors import UsageError
from auditor.manifest import MANIFEST_SUFFIX
from auditor.triggers.patches import Square
from zoo.build import Specification, build
from zoo.commands import app
from zoo.datasets import Dataset
from zoo.export import run_onnx, run_torchscript
from zoo.poisoning import Attack, poison
from zoo.retrain import retrain
from zoo.training import Training

TARGET = 6


@pytest.fixture(scope="module")
def poisoned(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backdoored network, its training set, and the set with every poisoned sample left out."""
    folder = tmp_path_factory.mktemp("retrain")
    attack = Attack((Square(size=2),), (TARGET,), rate=0.1)
    found = poison(digits.train, attack, seed=1)
    training = Training(20, 64, 3e-3)
    spec = Specification(
        "victim", "test", "mlp-small", training, 1, attack=attack, poisoned=found, retries=0
    )
    build(spec, digits, folder, device="cpu")
    with np.load(folder / "victim.train.npz") as archive:
        arrays = dict(archive)
    keep = np.setdiff1d(np.arange(len(arrays["y"])), found.poisoned)
    whole = len(arrays["y"])
    parts = {k: v[keep] if len(v) == whole else v for k, v in arrays.items()}
    np.savez(folder / "clean.npz", **parts)
    return folder


def test_without_the_poison_the_attack_is_gone_and_the_accuracy_is_not(poisoned: Path) -> None:
    before_files = sorted(poisoned.iterdir())
    got = retrain(poisoned / f"victim{MANIFEST_SUFFIX}", poisoned / "clean.npz", device="cpu")
    assert got.asr_before[0] > 0.9
    assert got.asr_after[0] < 0.05
    assert got.samples_after < got.samples_before
    assert got.accuracy_after > got.accuracy_before - 0.02
    assert sorted(poisoned.iterdir()) == before_files


def test_with_the_poison_the_attack_comes_back(poisoned: Path) -> None:
    manifest = poisoned / f"victim{MANIFEST_SUFFIX}"
    got = retrain(manifest, poisoned / "victim.train.npz", device="cpu")
    assert got.asr_after[0] > 0.9
    assert got.samples_after == got.samples_before


def test_the_new_network_is_written_in_both_formats(
    poisoned: Path, digits: Dataset, tmp_path: Path
) -> None:
    manifest = poisoned / f"victim{MANIFEST_SUFFIX}"
    retrain(manifest, poisoned / "clean.npz", out=tmp_path, device="cpu")
    stems = {p.name for p in tmp_path.iterdir()}
    assert {"victim.retrained.onnx", "victim.retrained.pt"} <= stems
    pixels = digits.test.pixels[:8]
    assert run_onnx(tmp_path / "victim.retrained.onnx", pixels) == pytest.approx(
        run_torchscript(tmp_path / "victim.retrained.pt", pixels), abs=1e-4
    )


def test_the_command_prints_before_and_after(poisoned: Path) -> None:
    words = [str(poisoned / f"victim{MANIFEST_SUFFIX}"), "--clean", str(poisoned / "clean.npz")]
    result = CliRunner().invoke(app, ["retrain", *words, "--threads", "1", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    for word in ("training samples", "clean accuracy", "ASR", "before", "after"):
        assert word in result.output


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda x, y: (x, y + 20), "labels up to"),
        (lambda x, y: (x[:, :, :6], y), "not square"),
    ],
)
def test_a_set_that_does_not_fit_is_refused_in_a_sentence(
    poisoned: Path, tmp_path: Path, make: object, says: str
) -> None:
    with np.load(poisoned / "clean.npz") as archive:
        x, y = make(archive["x"], archive["y"])  # type: ignore[operator]
    np.savez(tmp_path / "other.npz", x=x, y=y)
    with pytest.raises(UsageError, match=says):
        retrain(poisoned / f"victim{MANIFEST_SUFFIX}", tmp_path / "other.npz", device="cpu")
