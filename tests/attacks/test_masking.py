"""Masked models are reported, ordinary and adversarially trained ones are not."""

import pytest
import torch
from torch import nn

from auditor.attacks import masking
from tests.attacks.nets import Scale, digits, fgsm_trained, trained


def seen(net, epsilon=0.2, n=100):
    _, _, x, y = digits()
    with torch.no_grad():
        right = net(x).argmax(1) == y
    found = masking.measure(net, net, x[right][:n], y[right][:n], epsilon, queries=150)
    return {sign.name for sign in masking.signs(found, epsilon) if sign.seen}


@pytest.mark.parametrize("kind", ["mlp", "sigmoid", "cnn", "residual"])
def test_ordinary_models_are_not_reported(kind):
    assert seen(trained(kind)) == set()


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_adversarially_trained_models_are_not_reported(kind):
    assert seen(trained(kind, adversarial=0.08, epochs=12)) == set()


def test_sign_activations_are_reported():
    found = seen(trained("sign"))
    assert {"zero-gradient", "queries-beat-gradients", "unbounded-fails"} <= found


def test_saturated_outputs_are_reported():
    """What defensive distillation leaves: logits so large that the softmax has no gradient."""
    found = seen(nn.Sequential(trained("mlp"), Scale(200)))
    assert {"zero-gradient", "loss-decides"} <= found


@pytest.mark.slow
def test_collapsed_one_step_training_is_reported():
    """FGSM training without random start at a large epsilon: strong against one step only."""
    net = fgsm_trained(0.4)
    assert "smaller-step-is-stronger" in seen(net, epsilon=0.3)


def test_a_smaller_step_that_beats_a_larger_one_is_a_sign():
    def some(k, n=100):
        return torch.arange(n) < k

    def found(steps):
        single = tuple((0.1 * i, some(k)) for i, k in enumerate(steps))
        none, all_ = some(0), some(100)
        return masking.Attacked(some(steps[-1]), single, all_, all_, all_, all_, none, none)

    def names(steps):
        return {sign.name for sign in masking.signs(found(steps), 0.2) if sign.seen}

    assert names([35, 53, 46, 36, 19]) >= {"smaller-step-is-stronger"}
    assert names([0, 18, 20]) == {"one-step-stalls"}
    assert names([0, 18, 35]) == names([0, 60, 60]) == set()
    assert names([5, 20, 45, 44, 60]) == set()


def test_a_deadline_gives_nothing_rather_than_half():
    _, _, x, y = digits()
    net = trained("mlp")
    assert masking.measure(net, net, x[:20], y[:20], 0.2, stop=lambda: True) is None


def test_differences_must_be_large_and_not_chance():
    def some(k, n=100):
        return torch.arange(n) < k

    assert masking.beats(some(40), some(10))
    assert not masking.beats(some(20), some(10)), "10 points are not enough"
    assert not masking.beats(some(3, 10), some(0, 10)), "3 of 10 can be chance"
    assert not masking.beats(some(10), some(40))
