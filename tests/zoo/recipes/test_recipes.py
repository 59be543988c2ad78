"""Recipes build what they name; studies record figures that can be read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditor.errors import UsageError
from auditor.manifest import read_manifest
from zoo.datasets import Dataset
from zoo.page import write_page
from zoo.recipes.registry import GROUPS, STUDIES, Workshop, load, resolve
from zoo.study import Study, read_study


@pytest.fixture
def shop(digits: Dataset, tmp_path: Path) -> Workshop:
    """Few images, one epoch."""
    return Workshop(digits.limited(300, 60), tmp_path, epochs=1)


def test_groups_name_known_recipes_and_titles_are_one_line() -> None:
    known = load()
    for parts in GROUPS.values():
        assert set(parts) <= set(known)
    assert all(recipe.title and "\n" not in recipe.title for recipe in known.values())


def test_groups_are_spelled_out_once_and_unknown_names_refused() -> None:
    assert [r.name for r in resolve(["clean", "all"])] == ["clean", "backdoored", "adversarial"]
    with pytest.raises(UsageError, match="no zoo recipe 'nope'"):
        resolve(["nope"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("clean", "clean"),
        ("backdoored", "backdoored"),
        ("adversarial", "adversarial"),
        ("clean-label", "backdoored"),
        ("source-specific", "backdoored"),
        ("all-to-all", "backdoored"),
        ("pgd-backdoored", "adversarial-backdoored"),
    ],
)
def test_a_recipe_builds_its_kind_in_both_formats(shop: Workshop, name: str, kind: str) -> None:
    (recipe,) = resolve([name])
    recipe.run(shop)
    manifest = read_manifest(shop.out / f"{name}.manifest.json")
    assert manifest.kind == kind
    assert {artifact.format for artifact in manifest.artifacts} == {"onnx", "torchscript"}
    assert all((shop.out / artifact.file).is_file() for artifact in manifest.artifacts)


def test_the_target_option_reaches_the_attack_and_must_exist(shop: Workshop) -> None:
    shop.target = 3
    resolve(["backdoored"])[0].run(shop)
    attack = shop.manifests[0].attack
    assert attack is not None
    assert attack.targets == (3,)
    shop.target = 10
    with pytest.raises(UsageError, match="--target 10 does not exist"):
        resolve(["backdoored"])[0].run(shop)


@pytest.mark.parametrize("name", ["mnist-dnn-pixel", "levels", "fgsm-study", "fooling"])
def test_a_study_writes_its_figures_pictures_and_page(shop: Workshop, name: str) -> None:
    assert name in STUDIES
    shop.epochs = 10 if name == "fooling" else 1  # an untrained network takes long to fool
    resolve([name])[0].run(shop)
    study = read_study(shop.out / f"{name}.study.json")
    assert study.rows
    assert study.images
    assert all((shop.out / file).read_bytes()[:4] == b"\x89PNG" for file, _ in study.images)
    pages = write_page(shop.out, "audit zoo build <x>")
    assert pages is not None
    text, page = (path.read_text() for path in pages)
    assert study.title in text
    assert "audit zoo build &lt;x&gt;" in page
    assert all(file in page for file, _ in study.images)
    for manifest in shop.manifests:
        assert f"| {manifest.name} | {manifest.architecture} |" in text
        assert f"<td>{manifest.name}</td>" in page
    assert f"In all {study.seconds / 60:.0f} minutes" in text


def test_a_folder_without_studies_gets_no_page(tmp_path: Path) -> None:
    assert write_page(tmp_path, "x") is None
    assert not list(tmp_path.iterdir())


def test_a_missed_bound_is_said(tmp_path: Path) -> None:
    study = Study("s", "A study", "digits")
    study.at_least("good", 0.99, 0.98)
    study.at_least("bad", 0.97, 0.98)
    study.at_least("free", 0.5, None)
    study.write(tmp_path)
    assert read_study(tmp_path / "s.study.json") == study
    pages = write_page(tmp_path, "x")
    assert pages is not None
    text = pages[0].read_text()
    assert "| bad |  | >= 98.0% | 97.00% | NO |" in text
    assert "| good |  | >= 98.0% | 99.00% | yes |" in text


def test_poisoning_methods_spoil_the_share_they_say(digits: Dataset) -> None:
    from zoo.recipes.curves import METHODS

    images = digits.train
    for name, spoil in METHODS.items():
        result = spoil(images, 0.2, 0)
        whole = (images.labels == 0).sum() if name == "pairwise flips" else len(images)
        assert len(result.poisoned) == round(0.2 * whole), name
        assert np.isfinite(result.images.pixels).all()


@pytest.mark.slow
def test_filtering_finds_flipped_labels(digits: Dataset, tmp_path: Path) -> None:
    from zoo.poisoning import flip_labels
    from zoo.recipes.curves import suspicious, train_plain
    from zoo.training import Training

    bad = flip_labels(digits.train, 0.2, seed=0)
    shop = Workshop(digits, tmp_path)
    model = train_plain(bad.images, shop, "mlp-small", Training(10, 64, 4e-3), 0)
    flagged = suspicious(model, bad.images, 0)
    truth = np.zeros(len(flagged), dtype=bool)
    truth[bad.poisoned] = True
    assert (flagged & truth).sum() / truth.sum() > 0.7
    assert (flagged & truth).sum() / flagged.sum() > 0.7
