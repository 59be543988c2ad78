import numpy as np
import pytest

from auditor.inversion.features import CAP, anomaly, gap

TARGETS = np.arange(4)


def test_the_gap_is_the_next_class_over_the_easiest():
    found = gap(np.array([8.0, 2.0, 6.0, 9.0]), None, TARGETS, unit=64.0)
    assert found.target == 1
    assert found.raw == found.relative == found.honest == pytest.approx(3.0)
    assert found.share == pytest.approx(2 / 64)


def test_a_class_easy_by_nature_has_no_relative_gap():
    sizes, nature = np.array([8.0, 2.0, 6.0, 9.0]), np.array([8.0, 2.0, 6.0, 9.0])
    found = gap(sizes, nature, TARGETS, unit=64.0)
    assert found.raw == pytest.approx(3.0)
    assert found.honest == pytest.approx(1.0)


def test_scale_does_not_matter():
    sizes = np.array([8.0, 2.0, 6.0, 9.0])
    a, b = gap(sizes, None, TARGETS, 64.0), gap(100 * sizes, None, TARGETS, 64.0)
    assert a.raw == pytest.approx(b.raw)
    assert a.anomaly == pytest.approx(b.anomaly)


def test_unreached_classes_are_left_out_and_nothing_reached_is_none():
    assert gap(np.array([np.inf, 2.0, 6.0, np.inf]), None, TARGETS, 64.0).raw == pytest.approx(3)
    assert gap(np.array([np.inf, 2.0, np.inf, np.inf]), None, TARGETS, 64.0).raw == CAP
    assert gap(np.full(4, np.inf), None, TARGETS, 64.0) is None


def test_the_anomaly_index_is_neural_cleanses():
    logs = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert anomaly(np.exp(logs), 0) == pytest.approx(2.0 / 1.4826)
    assert anomaly(np.exp(logs[:2]), 0) == 0.0


def test_classes_unreached_in_both_do_not_matter():
    both = np.array([np.inf, 2.0, 6.0, np.inf])
    assert gap(both, both, TARGETS, 64.0).relative == pytest.approx(1.0)
