import numpy as np
import pytest
import torch

from auditor.inversion.slopes import slopes
from tests.attacks.nets import digits
from tests.inversion.nets import Planted, trained


def test_a_linear_net_has_parallel_gradients_and_the_exact_ratio():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-3.0, -3.0]])
    images = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).reshape(2, 1, 1, 2)
    found = slopes(lambda x: x.flatten(1) @ weight.T, images, 3)
    assert found.alike[1] == pytest.approx(1.0)
    missing = (0.8 + 0.6) / 2
    assert found.steep[1] == pytest.approx(np.log(np.sqrt(2) / missing), abs=1e-6)
    assert np.isnan(found.steep[0])  # both images are of class 0 already
    assert found.passes == 4


def test_a_planted_pattern_is_the_steepest_class():
    net = trained(3, 0.0)
    _, _, images, _ = digits()
    before = slopes(net, images[:120], 10)

    class Patterned(Planted):
        def forward(self, x):
            out = net(x)
            out[:, 3] = out[:, 3] + 60.0 * (x * pattern).sum((1, 2, 3))
            return out

    draw = torch.Generator().manual_seed(0)
    pattern = torch.randn((1, 1, 8, 8), generator=draw)
    pattern = pattern - (images.mean(0, keepdim=True) * pattern).sum() / images.mean(0).sum()
    after = slopes(Patterned(), images[:120], 10)
    assert after.steep[3] > before.steep[3]
    assert after.alike[3] > 0.9


def test_a_spent_budget_is_told():
    found = slopes(trained(), torch.rand((6, 1, 8, 8)), 10, spent=lambda: True)
    assert not found.complete
    assert np.isnan(found.steep).all()


def test_large_images_are_passed_in_pieces_with_the_same_result(monkeypatch):
    net, seen = trained(3, 20.0), []
    images = torch.rand((90, 1, 8, 8), generator=torch.Generator().manual_seed(1))

    def counted(x):
        seen.append(len(x))
        return net(x)

    whole = slopes(counted, images, 10)
    assert max(seen) == 480  # all classes together
    seen.clear()
    monkeypatch.setattr("auditor.inversion.slopes.CHUNK_VALUES", 0)
    pieces = slopes(counted, images, 10)
    assert max(seen) == 16
    assert np.allclose(whole.steep, pieces.steep)
    assert np.allclose(whole.alike, pieces.alike)
    assert whole.passes == pieces.passes
