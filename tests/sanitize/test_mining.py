"""Kinds that are followed are drawn more often; none is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.sanitize.mining import Mining

SHARES = np.array([0.4, 0.3, 0.2, 0.1])


def taught(follows, rounds: int = 100) -> Mining:
    """After many draws; `follows` says of a kind whether the network follows it."""
    mining = Mining(SHARES, np.random.default_rng(0))
    for _ in range(rounds):
        hits = np.zeros(24, bool)
        for kind, part in mining.deal(24, 8):
            hits[part] = follows(kind)
        mining.learn(hits)
    return mining


def test_at_first_kinds_are_drawn_by_their_shares():
    assert Mining(SHARES, np.random.default_rng(0)).chances == pytest.approx(SHARES)


def test_a_kind_that_is_followed_is_drawn_more_often_and_none_is_forgotten():
    chances = taught(lambda kind: kind == 3).chances
    assert chances[3] > 4 * SHARES[3]
    assert chances.sum() == pytest.approx(1)
    assert (chances >= 0.5 * SHARES - 1e-9).all()


def test_kinds_followed_alike_keep_their_shares():
    assert taught(lambda kind: True).chances == pytest.approx(SHARES, abs=0.02)
    assert taught(lambda kind: False).chances == pytest.approx(SHARES, abs=0.02)


def test_images_are_dealt_in_groups_and_the_last_may_be_smaller():
    dealt = Mining(SHARES, np.random.default_rng(0)).deal(20, 8)
    assert [part for _, part in dealt] == [slice(0, 8), slice(8, 16), slice(16, 20)]


def test_nothing_to_deal_is_nothing_to_learn():
    mining = Mining(SHARES, np.random.default_rng(0))
    assert mining.deal(0, 8) == []
    mining.learn(np.zeros(0, bool))
    assert mining.chances == pytest.approx(SHARES)
