import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from auditor.inversion.consensus import (
    DATA_FREE,
    GROUPS,
    HIGHEST,
    LOWEST,
    LOWEST_OF_FEW,
    consensus,
    standing,
    transform_lead,
)

NAMES = [m for alternatives in GROUPS.values() for members in alternatives for m in members]


def noise(seed, count=10):
    return np.random.default_rng(seed).normal(size=count)


def test_weak_signs_of_one_class_add_up():
    measures = {}
    for i, name in enumerate(NAMES):
        values = noise(i)
        values[7] += 1.5
        measures[name] = values
    found = consensus(measures)
    assert found.target == 7
    assert found.lead > 1.0
    assert found.features("consensus")["consensus.target"] == 7.0
    assert set(found.groups) == set(GROUPS)


def test_one_measure_cannot_lead_alone():
    measures = {m: noise(i) for i, m in enumerate(NAMES)}
    measures["margin"] = np.where(np.arange(10) == 2, 1e9, measures["margin"])
    calm = consensus(measures)
    assert calm.groups["margin"].max() <= HIGHEST
    assert calm.scores.max() <= len(GROUPS) * HIGHEST


def test_a_class_that_is_hard_in_one_measure_may_be_the_target_in_another():
    measures = {m: np.zeros(10) for m in NAMES}
    measures["waves"] = np.where(np.arange(10) == 5, 1.0, noise(0) / 50)
    hard = {**measures, "margin": np.where(np.arange(10) == 5, -9.0, noise(1))}
    assert consensus(hard).scores[5] == consensus(measures).scores[5]
    few = {"margin": hard["margin"], "head.mean": np.where(np.arange(10) == 5, 9.0, noise(2))}
    both = [consensus(few, DATA_FREE, lowest).scores[5] for lowest in (LOWEST, LOWEST_OF_FEW)]
    assert both[1] < both[0]


def test_one_kind_of_trigger_is_enough_for_its_group():
    measures = {m: noise(i) for i, m in enumerate(NAMES)} | {"warp": np.zeros(10)}
    blurred = np.zeros(10)
    blurred[4] = 1.6
    groups = [consensus({**measures, "blur": v}).groups["trigger"] for v in (np.zeros(10), blurred)]
    assert groups[1][4] == standing(blurred, 0.25)[4]
    assert np.array_equal(np.delete(groups[0], 4), np.delete(groups[1], 4))


def test_a_blur_that_reaches_one_class_leads_by_how_slight_it_is():
    slight, strong = np.zeros(10), np.zeros(10)
    slight[3], strong[3] = 1.5, 0.2
    assert transform_lead({"blur": slight}) > 4.0
    assert 0.0 < transform_lead({"blur": strong}) < 1.0
    assert transform_lead({"blur": np.zeros(10), "warp": np.zeros(10)}) == 0.0
    assert transform_lead({"blur": np.full(10, 1.5)}) == 0.0
    assert transform_lead({"patch": slight}) is None
    assert transform_lead({"blur": np.array([1.0, 0.0, 0.0])}) is None


def test_two_targets_do_not_hide_each_other():
    measures = {m: noise(i) for i, m in enumerate(NAMES)}
    for values in measures.values():
        values[[2, 6]] += 6.0
    found = consensus(measures)
    assert found.target in (2, 6)
    assert found.clear > 3 * found.lead


def test_classes_not_reached_are_the_least_suspicious():
    values = np.array([1.0, np.nan, 0.5, 0.2, 0.1])
    assert standing(values)[1] == standing(values).min()
    assert not standing(np.full(5, np.nan)).any()


def test_nothing_is_said_without_measures_or_for_three_classes():
    assert consensus({}) is None
    assert consensus({"margin": np.array([1.0, 2.0, 9.0])}) is None


@given(
    nps.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6) | st.just(np.nan)),
    st.floats(0.1, 100.0),
    st.floats(-1e3, 1e3),
)
def test_standing_is_bounded_and_scale_free(values, scale, shift):
    z = standing(values)
    assert np.isfinite(z).all()
    assert z.min() >= LOWEST
    assert z.max() <= HIGHEST
    known = values[np.isfinite(values)]
    if len(known) > 1 and known.std() > 1e-3:
        assert np.allclose(standing(values * scale + shift), z, atol=1e-3)
