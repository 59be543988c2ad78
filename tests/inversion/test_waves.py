import numpy as np
import torch

from auditor.inversion.waves import AMPLITUDES, IMAGES, affordable, waves
from tests.attacks.nets import digits
from tests.inversion.nets import Planted, trained


def images(count=40):
    return digits()[2][:count]


def listening(net, pattern, strength, target=3):
    """`net` with `target` raised by how much of `pattern` (H, W) an image holds."""

    class Listening(Planted):
        def forward(self, x):
            out = net(x)
            out[:, target] = out[:, target] + strength * (x.mean(1) * pattern).sum((1, 2))
            return out

    return Listening()


def wave(up, along, side=8):
    row, column = np.indices((side, side)) / side
    return torch.from_numpy(np.sin(2 * np.pi * (up * row + along * column)).astype(np.float32))


def test_the_class_that_answers_a_faint_wave_stands_out():
    net = trained(3, 0.0)
    before, after = waves(net, images(), 10), waves(listening(net, wave(2, 1), 20.0), images(), 10)
    assert before.excess.max() < 0.5
    assert after.excess.argmax() == 3
    assert after.excess[3] > before.excess[3] + 0.2
    assert after.complete


def test_a_patch_is_no_wave():
    clean, patched = waves(trained(3, 0.0), images(), 10), waves(trained(3, 20.0), images(), 10)
    assert patched.excess[3] < clean.excess[3] + 0.3


def test_images_of_the_class_itself_do_not_count():
    excess = waves(
        lambda x: torch.eye(4)[torch.zeros(len(x), dtype=torch.long)], images(), 4
    ).excess
    assert np.isnan(excess[0])
    assert not excess[1:].any()


def test_a_class_that_every_texture_leads_to_is_no_sign():
    rough = lambda x: (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))  # noqa: E731
    still = torch.full((6, 1, 16, 16), 0.5)
    scores = lambda x: torch.stack([torch.full((len(x),), 0.01), rough(x), -rough(x)], 1)  # noqa: E731
    assert waves(scores, still, 3).excess[1] < 0.1


def test_colour_and_odd_sizes_and_few_images():
    found = waves(lambda x: x.mean((2, 3)), torch.rand((2, 5, 7, 9)), 5)
    assert found.excess.shape == (5,)
    assert found.passes == 2 + 2 * len(AMPLITUDES) * 2 * (4 * 9 - 5)


def test_slow_networks_meet_fewer_waves():
    assert affordable(28, 28, 0.001, 10.0) == 1
    assert affordable(28, 28, 0.01, 5.0) == 2
    assert affordable(28, 28, 10.0, 0.0) == 8
    all_of_them, few = (waves(trained(), images(), 10, thin=n).passes for n in (1, 4))
    assert 3.5 < all_of_them / few < 4.5


def test_pieces_give_the_same(monkeypatch):
    net = listening(trained(3, 0.0), wave(1, 3), 10.0)
    whole = waves(net, images(), 10)
    seen = []

    def counted(x):
        seen.append(len(x))
        return net(x)

    monkeypatch.setattr("auditor.inversion.waves.CHUNK_VALUES", 0)
    pieces = waves(counted, images(), 10)
    assert max(seen) == IMAGES
    assert np.allclose(whole.excess, pieces.excess)


def test_a_spent_budget_is_told():
    found = waves(trained(), images(6), 10, spent=lambda: True)
    assert not found.complete
    assert np.isnan(found.excess).all()
