"""The commands parse, build and say what is wrong in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from auditor.errors import UsageError
from auditor.manifest import read_data_hint
from zoo.commands import app
from zoo.datasets import channel_statistics, load_dataset

RUN = CliRunner()


def test_build_writes_a_model_and_a_table(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path), "--epochs", "12", "--arch", "mlp-small", "--threads", "1"]
    result = RUN.invoke(app, ["build", "backdoored", "--target", "2", *options])
    assert result.exit_code in (0, 3), result.output
    manifest = json.loads((tmp_path / "backdoored.manifest.json").read_text())
    assert manifest["attack"]["targets"] == [2]
    assert manifest["architecture"] == "mlp-small"
    assert len(manifest["curve"]) == 12
    assert "backdoored" in result.output


def test_a_log_gets_a_line_for_every_model_that_was_built(tmp_path: Path) -> None:
    options = ["--count", "2", "--epochs", "1", "--archs", "mlp-small", "--out", str(tmp_path)]
    first = RUN.invoke(app, ["population", *options])
    assert first.exit_code == 0, first.output
    assert "1 of 2: m0000 (clean, mlp-small, digits): accuracy" in first.output
    assert "2 of 2: m0001 (" in first.output
    assert "below its acceptance" in first.output
    assert " of 2:" not in RUN.invoke(app, ["population", *options]).output
    assert "of 2:" not in RUN.invoke(app, ["population", *options, "--quiet"]).output


def test_a_model_below_its_acceptance_exits_3_and_is_named(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["build", "clean", "--out", str(tmp_path), "--epochs", "1"])
    assert result.exit_code == 3
    assert "clean accuracy" in result.output
    assert "short" in result.output


def test_a_folder_of_images_is_cut_into_halves_and_named_without_its_path(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "shades" / label).mkdir(parents=True)
        for number in range(15):
            pixels = rng.integers(level - 30, level + 30, (10, 10), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "shades" / label / f"{number}.png")
    source = str(tmp_path / "shades")
    data = load_dataset(source)
    assert (len(data.train), len(data.test)) == (24, 6)
    assert data.name == "shades"
    assert data.classes == ("dark", "light")
    seen = {image.tobytes() for image in data.train.pixels}
    assert not seen & {image.tobytes() for image in data.test.pixels}
    mean, std = channel_statistics(data.train)
    assert len(mean) == len(std) == 1
    options = ["--out", str(tmp_path / "o"), "--epochs", "2", "-q", "--dataset", source]
    assert RUN.invoke(app, ["build", "clean", *options]).exit_code == 0
    hint = read_data_hint(tmp_path / "o" / "clean.onnx")
    assert hint is not None
    assert hint.name == "shades"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["build", "nope"], "no zoo recipe"),
        (["build", "clean", "--arch", "vgg"], "--arch vgg is unknown"),
        (["build", "backdoored", "--rate", "1.5"], "--rate"),
        (["build", "backdoored", "--target", "11", "-q"], "--target 11"),
        (["population", "-o", "x", "--static", "1,2"], "three numbers"),
        (["inject", "missing.onnx", "--style", "s", "--out", "y.onnx"], "no file"),
    ],
)
def test_mistakes_are_usage_errors(
    arguments: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = RUN.invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert word in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_list_and_schema_answer() -> None:
    listed = RUN.invoke(app, ["list"])
    assert listed.exit_code == 0
    assert "several-triggers" in listed.output
    schema = json.loads(RUN.invoke(app, ["schema"]).output)
    assert schema["title"] == "Manifest"


def test_importing_the_commands_loads_nothing_heavy() -> None:
    code = (
        "import sys, zoo.commands; "
        "print([m for m in ('torch', 'sklearn', 'onnx', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_published_schema_is_the_one_in_use() -> None:
    from auditor.manifest import manifest_schema

    published = Path(__file__).parents[2] / "docs" / "schemas" / "manifest.schema.json"
    assert json.loads(published.read_text()) == manifest_schema()
