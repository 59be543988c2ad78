"""A population is a function of its plan; a second run does only what is missing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from auditor.errors import UsageError
from zoo.catalogue import CATALOGUE, Draft
from zoo.export import digest
from zoo.population import Plan, draw, finished, run

PLAN = Plan(("digits",), 3, seed=4, train_samples=200, epochs=1, archs=("mlp-small",))


def test_a_third_is_clean_a_sixth_hardened_and_the_rest_attacked() -> None:
    kinds = Counter(member.kind for member in draw(Plan(("digits", "mnist"), 60)))
    assert kinds == {"clean": 20, "adversarial": 10, "attacked": 30}


def test_a_larger_population_contains_the_smaller() -> None:
    assert draw(replace(PLAN, count=9))[:3] == draw(PLAN)
    assert draw(replace(PLAN, seed=5)) != draw(PLAN)


def test_every_data_set_gets_every_kind() -> None:
    members = draw(Plan(("digits", "mnist", "fashion-mnist"), 36))
    seen = {(member.dataset, member.kind) for member in members}
    assert len(seen) == 9


def test_an_exact_mix_is_kept_and_must_add_up() -> None:
    kinds = Counter(member.kind for member in draw(replace(PLAN, static=(1, 0, 2))))
    assert kinds == {"clean": 1, "attacked": 2}
    with pytest.raises(UsageError, match="adds up to 4"):
        draw(replace(PLAN, static=(1, 1, 2)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:joblib.*")
def test_a_second_run_redoes_nothing_and_repairs_what_is_missing(tmp_path: Path) -> None:
    first = list(run(PLAN, tmp_path))
    assert [resumed for _, resumed in first] == [False] * 3
    hashes = {path.name: digest(path) for path in tmp_path.glob("*.onnx")}
    assert len(hashes) == 3
    (tmp_path / "m0001.onnx").unlink()
    (tmp_path / "m0002.manifest.json").write_text("{ half a fi")
    second = {item.name: resumed for item, resumed in run(PLAN, tmp_path)}
    assert second == {"m0000": True, "m0001": False, "m0002": False}
    assert {path.name: digest(path) for path in tmp_path.glob("*.onnx")} == hashes
    index = json.loads((tmp_path / "population.json").read_text())
    assert [row["name"] for row in index["members"]] == ["m0000", "m0001", "m0002"]


def test_another_plan_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    list(run(replace(PLAN, count=1), tmp_path))
    member = draw(replace(PLAN, count=1, seed=9))[0]
    with pytest.raises(UsageError, match="another population"):
        finished(member, tmp_path)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize("side", [8, 28, 32])
def test_every_attack_can_be_drawn_for_every_image_size(name: str, side: int) -> None:
    import numpy as np

    pixels = np.random.default_rng(0).random((4, 3 if side == 32 else 1, side, side), np.float32)
    usual = CATALOGUE[name].make(Draft(side, 10, 6))
    drawn = CATALOGUE[name].make(Draft(side, 10, 6, np.random.default_rng(1)))
    for attack in (usual, drawn):
        for trigger in attack.triggers:
            assert trigger.apply(pixels).shape == pixels.shape
    again = CATALOGUE[name].make(Draft(side, 10, 6, np.random.default_rng(1)))
    assert [t.name for t in again.triggers] == [t.name for t in drawn.triggers]
    assert again.rate == drawn.rate


def test_all_to_all_is_not_asked_to_succeed_more_often_than_images_are_recognised() -> None:
    draft = Draft(32, 10, 6)
    every, one = CATALOGUE["all-to-all"], CATALOGUE["square"]
    assert every.least_asr(every.make(draft), 0.5) == pytest.approx(0.5 * every.asr)
    assert one.least_asr(one.make(draft), 0.5) == one.asr
