"""What a recovered trigger is like: planted against merely found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.inversion.character import character, compactness, contents, likeness
from auditor.triggers.blends import AdditiveNoise
from auditor.triggers.patches import Square
from tests.checks.behaviour.nets import TARGET, TRIGGER, classifier, samples, trained


def test_a_planted_trigger_makes_the_network_sure() -> None:
    held_out = samples(200)
    planted = character(classifier(trained(True)), held_out, TRIGGER, TARGET, 0)
    same = character(classifier(trained(False)), held_out, TRIGGER, TARGET, 0)
    assert planted["log_sure"] > same["log_sure"] + 0.5
    assert planted["half"] >= same["half"]
    assert all(-1 <= found["content"] <= 1 for found in (planted, same))
    assert planted["compact"] == pytest.approx(same["compact"])


def test_without_images_of_other_classes_there_is_no_character() -> None:
    held_out = samples(200)
    alone = held_out.take(np.flatnonzero(held_out.labels == TARGET))
    assert character(classifier(trained(True)), alone, TRIGGER, TARGET, 0) == {}


def test_contents_are_images_and_repeat_with_the_seed() -> None:
    some = samples(20).pixels
    one = contents(some, 3)
    assert one.shape == (48, *some.shape[1:])
    assert one.min() >= 0 and one.max() <= 1
    np.testing.assert_array_equal(one, contents(some, 3))
    assert not np.array_equal(one, contents(some, 4))


@given(st.integers(1, 8))
def test_compactness_is_the_share_of_the_image_touched(size: int) -> None:
    images = np.zeros((3, 1, 8, 8), np.float32)
    change = Square(size=size, at=(0, 0)).apply(images) - images
    assert compactness(change) == pytest.approx(size * size / 64)


def test_likeness_is_of_direction_only() -> None:
    images = np.full((4, 1, 8, 8), 0.5, np.float32)
    weak, strong, other = (
        AdditiveNoise(amplitude=a, seed=s, kind="sign").apply(images) - images
        for a, s in ((0.1, 0), (0.3, 0), (0.3, 1))
    )
    assert likeness(weak, strong) == pytest.approx(1.0)
    assert abs(likeness(strong, other)) < 0.6
    assert likeness(weak, np.zeros_like(weak)) == 0.0
