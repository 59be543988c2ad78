"""Randomized smoothing against a classifier whose true radius is known."""

import numpy as np
import pytest
from scipy import stats

from auditor.bounds.smoothing import smooth


def half_space(images):
    """Class 1 where the first pixel is above 0.5."""
    side = images[:, 0, 0, 0] - 0.5
    return np.stack([-side, side], 1)


def test_radius_never_exceeds_the_true_distance_of_a_linear_classifier():
    images = np.full((5, 1, 2, 2), 0.5, np.float32)
    images[:, 0, 0, 0] = [0.1, 0.3, 0.5, 0.7, 0.9]
    found = smooth(half_space, images, 0.25, draws=2000)
    assert found.votes[[0, 1]].tolist() == [0, 0] and found.votes[[3, 4]].tolist() == [1, 1]
    assert found.votes[2] == -1 and found.radius[2] == 0
    true = np.abs(images[:, 0, 0, 0] - 0.5)
    assert (found.radius <= true + 1e-6).all()
    assert found.radius[1] > 0.5 * true[1]


def test_a_constant_classifier_gets_the_largest_radius_the_draws_allow():
    found = smooth(lambda x: np.tile([0.0, 1.0], (len(x), 1)), np.zeros((1, 1, 2, 2)), 0.5,
                   draws=100, alpha=0.001)  # fmt: skip
    assert found.radius[0] == pytest.approx(0.5 * stats.norm.ppf(0.001 ** (1 / 100)))
