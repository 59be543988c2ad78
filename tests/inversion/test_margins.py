import numpy as np
import pytest
import torch

from auditor.inversion.margins import (
    channel_lipschitz,
    head_statistics,
    maximum_margins,
    robust_z,
)
from tests.inversion.nets import trained

SHAPE = (1, 8, 8)


def test_the_planted_class_has_the_largest_margin():
    found = maximum_margins(trained(3, 120.0), SHAPE, 10)
    assert found.target == 3
    assert found.p < 1e-3
    assert found.robust_z > 3
    assert found.passes == 60 * 60


def test_a_clean_net_has_no_significant_margin():
    found = maximum_margins(trained(), SHAPE, 10)
    assert found.p > 0.01


def test_a_linear_net_reaches_its_exact_maximum():
    weight = torch.tensor([[1.0, -2.0], [0.5, 1.0], [-1.0, 0.25]])

    def logits(x):
        return x.flatten(1) @ weight.T

    found = maximum_margins(logits, (1, 1, 2), 3, steps=80)
    assert found.values[0] == pytest.approx(0.5, abs=0.05)
    assert found.values[1] == pytest.approx(2.25, abs=0.05)


def test_a_spent_budget_stops_it():
    found = maximum_margins(trained(), SHAPE, 10, spent=lambda: True)
    assert found.steps == 1
    assert not found.complete


def test_head_statistics_single_out_an_odd_row():
    rows = torch.randn((10, 50), generator=torch.Generator().manual_seed(0))
    rows[4] += 1.0
    statistics = head_statistics(rows)
    assert statistics["mean"].argmax() == 4
    assert robust_z(statistics["mean"], 4) > 4


def test_channel_lipschitz_is_the_largest_singular_value():
    weight = torch.randn((6, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    expected = [np.linalg.norm(k.reshape(3, 9).numpy(), 2) for k in weight]
    assert np.allclose(channel_lipschitz(weight, 0), expected, rtol=1e-5)
    assert np.allclose(channel_lipschitz(weight.movedim(0, 1), 1), expected, rtol=1e-5)
