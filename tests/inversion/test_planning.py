"""How much is searched in the time there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.inversion.planning import affordable, pass_seconds, plan, settings_for
from auditor.inversion.shortlist import LEAST


def test_a_fast_network_gets_the_usual_search_and_a_slow_one_half_the_images():
    usual = plan(10, 0, 1e-4, 60.0)
    assert usual == settings_for(10, 0)
    slow = plan(10, 0, 1e-2, 60.0)
    assert slow.batch == usual.batch // 2
    assert slow.halvings
    assert plan(10, 0, 1e-2, np.inf) == usual


def test_all_classes_are_searched_while_one_family_leaves_room_for_the_next():
    settings = settings_for(1000, 0)
    # 100 steps, 69 % of the classes in the mean after pruning: 69 steps a class.
    assert affordable(settings, 1000, 1e-4, 60.0) == 1000
    assert affordable(settings, 1000, 1e-3, 60.0) == int(0.25 * 60 / 0.069)
    assert affordable(settings, 1000, 1.0, 60.0) == LEAST
    assert affordable(settings, 5, 1.0, 60.0) == 5
    assert affordable(settings, 1000, 1.0, np.inf) == 1000


@given(
    st.integers(2, 5000), st.floats(1e-7, 10.0), st.floats(0.0, 1e4), st.floats(1.0, 10.0)
)  # fmt: skip
def test_more_time_never_searches_fewer_classes(classes, step, seconds, factor):
    settings = settings_for(classes, 0)
    few = affordable(settings, classes, step, seconds)
    more = affordable(settings, classes, step, factor * seconds)
    assert min(classes, LEAST) <= few <= more <= classes


@pytest.mark.parametrize("classes", [2, 12])
def test_a_handful_is_never_cut(classes):
    assert affordable(settings_for(classes, 0), classes, 1e3, 1.0) == classes


def test_more_threads_make_a_pass_shorter_up_to_a_point_and_a_coarse_clock_does_no_harm():
    assert pass_seconds(1.0, 1) == 1.0
    assert pass_seconds(1.0, 2) == pytest.approx(2 / 3)
    assert pass_seconds(1.0, 64) == pass_seconds(1.0, 4)
    assert pass_seconds(0.0, 1) > 0.0
