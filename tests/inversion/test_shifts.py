import numpy as np
import pytest
import torch
from torch import nn

from auditor.checks.behaviour.all_to_all import suspicious
from auditor.inversion.families import Patch
from auditor.inversion.search import Settings, invert
from auditor.inversion.shifts import Shift, search_shifts
from auditor.samples.interface import Images
from tests.attacks.nets import digits
from tests.inversion.nets import trained


class Shifted(nn.Module):
    """A digit reader whose scores roll by `by` when two corner pixels are bright."""

    def __init__(self, net, by):
        super().__init__()
        self.net, self.by = net, by

    def forward(self, x):
        gate = torch.sigmoid(6 * (x[:, 0, 0, 0] + x[:, 0, 0, 7] - 1.0))[:, None]
        scores = self.net(x)
        return (1 - gate) * scores + gate * torch.roll(scores, self.by, 1)


class Like:
    """What the search uses of a classifier."""

    classes, image_shape = 10, (1, 8, 8)

    def __init__(self, net):
        self.twin_logits = net

    def labels(self, pixels):
        with torch.no_grad():
            return self.twin_logits(torch.from_numpy(pixels)).argmax(1).numpy()


@pytest.fixture(scope="module")
def samples():
    _, _, x, y = digits()
    both = Images(x[:200].numpy(), y[:200].numpy(), "digits")
    return both.take(slice(0, 120)), both.take(slice(120, 200))


@pytest.mark.parametrize("by", [1, 4])
def test_the_planted_shift_is_found_and_confirmed(samples, by):
    _, best = search_shifts(Like(Shifted(trained(), by)), *samples, 0, "cpu")
    assert best is not None
    assert best.by == by
    assert best.asr > 0.8
    assert suspicious(best)


def test_a_clean_network_has_no_shift(samples):
    _, best = search_shifts(Like(trained()), *samples, 0, "cpu")
    assert best is None or not suspicious(best)


def test_an_all_to_one_backdoor_is_no_shift(samples):
    _, best = search_shifts(Like(trained(target=3, strength=60.0)), *samples, 0, "cpu")
    assert best is None or not suspicious(best)


def shift(**more):
    given = {"by": 1, "trigger": None, "gap": 3.0, "share": 0.05, "asr": 0.9, "low": 0.8}
    return Shift(**{**given, "high": 0.95, "control": 0.1, "n": 80, **more})


@pytest.mark.parametrize("more", [{"gap": 1.2}, {"share": 0.4}, {"low": 0.3}, {"control": 0.6}, {}])
def test_every_bound_counts(more):
    assert suspicious(shift(**more)) == (more == {})


def test_wanted_answers_equal_to_the_targets_change_nothing(samples):
    net, few = trained(), samples[0].take(slice(0, 60))
    images, labels = torch.from_numpy(few.pixels), torch.from_numpy(few.labels)
    targets = np.arange(4)
    settings = Settings(steps=5, halvings=())
    one = invert(net, images, labels, Patch((1, 8, 8)), targets, settings)
    wanted = torch.arange(4)[:, None].expand(4, len(labels))
    two = invert(net, images, labels, Patch((1, 8, 8)), targets, settings, wanted=wanted)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters, two.parameters, strict=True))
    with pytest.raises(ValueError, match="at least one other class"):
        invert(net, images, labels, Patch((1, 8, 8)), targets, settings,
               wanted=labels[None].expand(4, len(labels)))  # fmt: skip
