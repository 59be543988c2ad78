"""Classes left out for want of time: the target must not be among them, and the report says so."""

import numpy as np
import pytest
import torch
from torch import nn

from auditor.checks.behaviour.inversion import TriggerInversion
from auditor.checks.interface import Incomplete
from auditor.checks.runner import Collector
from auditor.inversion import campaign as inversion
from auditor.inversion.shortlist import shortlist
from tests.checks.behaviour.fakes import context, outcomes
from tests.inversion.nets import trained

EVERY = np.arange(10)


def chosen(ctx, most, targets=EVERY, step=1e-6):
    found = shortlist(ctx, torch.from_numpy(ctx.samples.pixels), targets, most, step)
    assert bool(found.by) == (step < 1)
    return found.targets


class Steep(nn.Module):
    """Two corner pixels, dark on every digit, raise one class from the first grey on."""

    def __init__(self, target):
        super().__init__()
        self.net, self.target = trained(), target

    def forward(self, x):
        push = 60.0 * (x[:, 0, 0, 0] + x[:, 0, 0, 7])
        return self.net(x) + push[:, None] * (torch.arange(10) == self.target)


@pytest.mark.parametrize("target", [0, 3, 9])
def test_a_planted_class_is_on_a_short_list(target):
    assert target in chosen(context(Steep(target), n=200), 3)


def test_the_order_of_the_classes_stays():
    ctx = context(trained(3, 60.0), n=100)
    few = chosen(ctx, 4, EVERY[::-1].copy())
    assert len(few) == 4
    assert (np.diff(few) < 0).all()


def test_without_any_time_left_the_first_classes_stay():
    ctx = context(trained(3, 60.0), n=40, seconds=0.0)
    assert chosen(ctx, 4, step=1.0).tolist() == [0, 1, 2, 3]


class Wide(nn.Module):
    """Forty classes, of which ten are digits."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        few = self.net(x)
        return torch.cat([few, few.min(1, keepdim=True).values.expand(-1, 30) - 1.0], 1)


@pytest.fixture
def only_twelve(monkeypatch):
    monkeypatch.setattr(inversion, "affordable", lambda settings, classes, step, seconds: 12)


def test_what_was_left_out_is_told_and_the_backdoor_found_all_the_same(only_twelve):
    seen = outcomes(TriggerInversion(), context(Wide(trained(3, 60.0)), n=200, classes=40))
    assert seen.findings[0].target_class == 3
    told = next(n for n in seen.notices if "12 of 40 classes were searched (time budget)" in n)
    assert "slopes and answers to waves" in told
    assert len(seen.metrics["per_class"]) == 12


def test_a_clean_network_searched_in_part_is_never_called_clean(only_twelve):
    ctx = context(Wide(trained()), n=200, classes=40)
    with pytest.raises(Incomplete, match="12 of 40 classes"):
        outcomes(TriggerInversion(), ctx)


def test_a_search_in_an_order_of_no_meaning_is_told(only_twelve, monkeypatch):
    monkeypatch.setattr("auditor.inversion.shortlist._SHARE", 0.0)
    ctx = context(Wide(trained()), n=200, classes=40)
    seen = Collector()
    with pytest.raises(Incomplete, match="12 of 40 classes"):
        for outcome in TriggerInversion().run(ctx):
            seen.add(outcome)
    assert any("no time to measure any (0, 1, 2" in n for n in seen.notices)


def test_a_thrifty_search_is_told(monkeypatch):
    seen = outcomes(TriggerInversion(), context(trained(), n=60))
    assert inversion.THRIFTY not in seen.notices
    monkeypatch.setattr("auditor.inversion.planning._FITS", 0.0)
    seen = outcomes(TriggerInversion(), context(trained(), n=60))
    assert inversion.THRIFTY in seen.notices


def test_without_the_yardstick_no_class_is_accused(monkeypatch):
    """What a class is by nature must be known before it is called too easy."""
    search = inversion.invert

    def cut(logits, *rest):
        found = search(logits, *rest)
        found.complete = getattr(logits, "__module__", "") != "auditor.inversion.reference"
        return found

    monkeypatch.setattr(inversion, "invert", cut)
    seen = Collector()
    with pytest.raises(Incomplete, match="patch and additive"):
        for outcome in TriggerInversion().run(context(trained(3, 60.0), n=100)):
            seen.add(outcome)
    assert not seen.findings
    assert any("by nature was not measured" in n for n in seen.notices)
