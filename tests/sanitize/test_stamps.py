"""Random triggers: in range, reproducible, and drawn the more often the more they are followed."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.sanitize.stamps import Stamps, random_trigger


def images(count: int = 24) -> np.ndarray:
    return np.random.default_rng(0).random((count, 1, 12, 12)).astype(np.float32)


def taught(stamps: Stamps, follows, rounds: int = 200) -> Stamps:
    """Draws often; `follows` says of a kind's index whether the network follows it."""
    for _ in range(rounds):
        stamps.stamp(images())
        hits = np.zeros(24, bool)
        for kind, part in stamps._drawn:
            hits[part] = follows(kind)
        stamps.learn(hits)
    return stamps


def test_stamps_keep_shape_and_range_and_change_something():
    seen = Stamps(np.random.default_rng(1)).stamp(images())
    assert seen.shape == (24, 1, 12, 12)
    assert seen.dtype == np.float32
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert not np.array_equal(seen, images())


def test_the_same_seed_stamps_the_same():
    one, other = (Stamps(np.random.default_rng(3)).stamp(images()) for _ in range(2))
    assert np.array_equal(one, other)


def test_no_images_are_no_error():
    stamps = Stamps(np.random.default_rng(0))
    assert len(stamps.stamp(images(0))) == 0
    stamps.learn(np.zeros(0, bool))


def test_a_kind_that_is_followed_is_drawn_more_often():
    stamps = Stamps(np.random.default_rng(0))
    before = stamps.chances.copy()
    after = taught(stamps, lambda kind: kind == 3).chances
    assert after[3] > 4 * before[3]
    assert after.sum() == pytest.approx(1)
    assert (after >= 0.4 * before).all(), "no kind is forgotten"


def test_kinds_that_are_all_followed_alike_keep_their_shares():
    stamps = taught(Stamps(np.random.default_rng(0)), lambda kind: True)
    assert stamps.chances == pytest.approx(stamps.base, abs=0.03)


def test_random_triggers_fit_small_and_coloured_images():
    rng = np.random.default_rng(0)
    for side in (8, 32):
        few = np.random.default_rng(1).random((2, 3, side, side)).astype(np.float32)
        for _ in range(40):
            assert random_trigger(rng, side).apply(few).shape == few.shape
