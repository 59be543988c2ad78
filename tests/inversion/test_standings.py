"""What each family's search says class by class: reached or not, by nature or not."""

import numpy as np
import pytest

from auditor.inversion.families import Patch
from auditor.inversion.result import Campaign, Result
from auditor.inversion.search import Inversion
from auditor.inversion.transforms import Smoothing, Warping


def standings(kind, sizes, reference=None):
    family, count = kind((1, 16, 16)), len(sizes)
    search = Inversion(
        family, np.arange(1, count + 1), np.array(sizes), np.ones(count), np.full(count, 100), ()
    )
    beside = None if reference is None else np.array(reference)
    return Campaign([Result(family, search, beside, None)], classes=6).standings()


def test_a_small_size_stands_high_and_what_was_not_reached_is_not_known():
    seen = standings(Patch, [4.0, 16.0, np.inf])
    assert seen["patch"][1] - seen["patch"][2] == pytest.approx(np.log(4.0))
    assert np.isnan(seen["patch"][[0, 3, 4, 5]]).all()


def test_relative_to_a_class_that_is_easy_by_nature_nothing_is_left():
    seen = standings(Patch, [4.0, 16.0, 2.0], reference=[4.0, 16.0, np.inf])
    assert seen["patch.relative"][1:3] == pytest.approx([0.0, 0.0])
    assert np.isnan(seen["patch.relative"][3])


@pytest.mark.parametrize(("kind", "limit"), [(Smoothing, 8**0.5), (Warping, 4.0)])
def test_a_limited_family_counts_by_how_far_below_its_limit_it_is(kind, limit):
    seen = standings(kind, [limit / 2, limit, 2 * limit, np.inf])
    values = seen[kind.name]
    assert values[1] == pytest.approx(np.log(2.0))
    assert not values[[0, 2, 3, 4, 5]].any()
    assert f"{kind.name}.relative" not in seen


def test_where_noise_leads_a_blur_says_nothing():
    family = Smoothing((1, 16, 16))
    search = Inversion(
        family, np.arange(4), np.array([1.0, 1.0, np.inf, 2.0]), np.ones(4), np.full(4, 100), ()
    )
    noise = np.array([0.8, 0.1, 0.1, 0.0])
    campaign = Campaign([Result(family, search, None, None)], classes=4, attraction=noise)
    seen = campaign.standings()["blur"]
    assert seen[0] == 0.0
    assert seen[1] == pytest.approx(np.log(8**0.5))
    assert seen[3] == pytest.approx(np.log(8**0.5 / 2))


def test_classes_that_were_not_searched_are_neither_easy_nor_hard():
    search = Inversion(
        Patch((1, 16, 16)), np.array([1, 2, 3]), np.array([4.0, 8.0, 16.0]), np.ones(3),
        np.full(3, 100), (),
    )  # fmt: skip
    campaign = Campaign([Result(search.family, search, None, None)], classes=6, searched=3)
    seen = campaign.standings()
    assert seen["patch"][[0, 4, 5]] == pytest.approx(-np.log(8.0))
    assert "3 of 6" in campaign.unfinished() or "too early" in campaign.unfinished()
