"""Random triggers: in range, reproducible, of every kind."""

from __future__ import annotations

import numpy as np

from auditor.sanitize.stamps import Stamps, random_trigger


def images(count: int = 24) -> np.ndarray:
    return np.random.default_rng(0).random((count, 1, 12, 12)).astype(np.float32)


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
    stamps.mining.learn(np.zeros(0, bool))


def test_every_kind_is_drawn():
    stamps = Stamps(np.random.default_rng(0))
    dealt = {kind for _ in range(100) for kind, _ in stamps.mining.deal(64, 8)}
    assert dealt == set(range(len(stamps.kinds) + 1))


def test_random_triggers_fit_small_and_coloured_images():
    rng = np.random.default_rng(0)
    names = {random_trigger(np.random.default_rng(seed), 28).family for seed in range(80)}
    assert len(names) >= 8
    for side in (8, 32):
        few = np.random.default_rng(1).random((2, 3, side, side)).astype(np.float32)
        for _ in range(40):
            assert random_trigger(rng, side).apply(few).shape == few.shape
